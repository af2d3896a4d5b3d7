# SPDX-License-Identifier: MIT
# make build | test | lint | format | demo [QUICK=1] | demo-mixture [QUICK=1] | demo-images [QUICK=1] [GALLERY=1] | studies | study-2d | study-alanine | study-maxflux | study-implicit | study-tetrapeptide | bench | docs | dist | test-package | fuzz [RUNS=N] | sanitize | clean.
# OFFLINE=1 uses what is installed already.
SHELL := /bin/bash
PYTHON ?= python3
JOBS ?= $(shell nproc)
VENV := .venv
PY := $(VENV)/bin/python
BUILD := build/make
# Platforms on which the tests of the force must run; where one cannot, they fail instead of being skipped.
REQUIRED_PLATFORMS ?= Reference,CPU,OpenCL
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := g++ cmake ninja-build ccache python3 python3-dev python3-venv libeigen3-dev libboost-program-options-dev libgtest-dev nlohmann-json3-dev zlib1g-dev libstb-dev libturbojpeg0-dev clang-format clang-tidy opencl-headers ocl-icd-libopencl1 pocl-opencl-icd fonts-noto-color-emoji doxygen locales
SOURCES := $(shell find CMakeLists.txt cmake plugin platforms python tests/cpp pyproject.toml -type f -not -name '*.pyc' 2>/dev/null)
export CCACHE_DIR ?= $(CURDIR)/build/ccache

.PHONY: build test test-cpp test-python test-package dist lint format demo demo-mixture demo-images studies study-2d study-alanine study-maxflux study-implicit study-tetrapeptide bench docs fuzz sanitize install-system clean
.DEFAULT_GOAL := build

# What Debian provides; nothing is asked for where everything is there.
INSTALL = mkdir -p build; missing=""; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q "ok installed" || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	    if [ -n "$(OFFLINE)" ]; then echo "OFFLINE=1, but these Debian packages are missing:$$missing" >&2; exit 2; fi; \
	    echo "installing Debian packages:$$missing"; \
	    $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing > build/apt.log || { tail build/apt.log; exit 1; }; \
	fi
install-system: build/.system
build/.system:
	@$(call INSTALL,$(APT))
	@touch $@

# The Python environment with OpenMM, LibTorch and the build tools. Beside it OpenMM for CUDA 12, against which tests hold the CUDA library.
$(VENV)/.packages: build/.system requirements.txt
	@[ -x $(PY) ] || $(PYTHON) -m venv $(VENV)
	@if [ -n "$(OFFLINE)" ]; then $(PY) -c "import openmm, torch, numpy, nanobind, scikit_build_core, setuptools_scm" || exit 2; \
	else echo "installing Python packages (OpenMM, LibTorch, ...)"; $(PY) -m pip install -q --disable-pip-version-check -r requirements.txt && \
	    $(PY) -m pip install -q --disable-pip-version-check --upgrade --no-deps --target $(VENV)/openmm-cuda-12 'openmm-cuda-12>=8.6.1,<8.7'; fi
	@touch $@

# OpenPathSampling needs numpy below 2, so it has an environment of its own (650 MB, about a minute), which tests of the hand-off run. six is what it forgets to ask for.
OPS := $(VENV)/ops
$(OPS)/.packages: $(VENV)/.packages
	@if [ -n "$(OFFLINE)" ]; then [ -x $(OPS)/bin/python ] || echo "OFFLINE=1 and no $(OPS): tests of the OpenPathSampling hand-off will be skipped" >&2; \
	else echo "installing OpenPathSampling"; [ -x $(OPS)/bin/python ] || $(PYTHON) -m venv $(OPS); \
	    $(OPS)/bin/python -m pip install -q --disable-pip-version-check 'openpathsampling>=1.7,<1.8' 'numpy<2' 'openmm>=8.6.1,<8.7' mdtraj six && touch $@; fi

# One build tree serves the tests and the package: ninja shows the progress, pip then packs what is built.
CMAKE_ARGS := -DPython_EXECUTABLE=$(CURDIR)/$(PY) -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DSPACETIME_BUILD_TESTS=ON \
	-DSPACETIME_REQUIRED_PLATFORMS=$(REQUIRED_PLATFORMS)
$(BUILD)/build.ninja: $(VENV)/.packages
	@cmake -S . -B $(BUILD) -G Ninja $(CMAKE_ARGS) > build/cmake.log || { cat build/cmake.log; exit 1; }

PIP_BUILD := -q --disable-pip-version-check --no-build-isolation --no-deps --config-settings=build-dir=$(BUILD) \
	--config-settings=cmake.define.SPACETIME_BUILD_TESTS=ON --config-settings=cmake.define.CMAKE_CXX_COMPILER_LAUNCHER=ccache
build/.installed: $(BUILD)/build.ninja $(SOURCES)
	@ninja -C $(BUILD) -j $(JOBS)
	@$(PY) -m pip install $(PIP_BUILD) --force-reinstall .
	@touch $@

build: build/.installed

test-cpp: build
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

test-python: build $(OPS)/.packages
	@$(if $(OFFLINE),,SPACETIME_OPS_PYTHON=$(CURDIR)/$(OPS)/bin/python) $(PY) -m pytest -q -rs

test: test-cpp test-python

# clang-tidy looks at the sources that changed, or whose headers did, since they passed: tests/lint/tidy.json, which is committed, knows.
CPP := $(shell git ls-files 'plugin/*.cpp' 'plugin/*.h' 'platforms/*.cpp' 'platforms/*.h' 'python/bindings/*.cpp' 'python/bindings/*.h' 'tests/cpp/*' 'tests/fuzz/*' 'examples/*.cpp' 2>/dev/null | grep -E '\.(cpp|h)$$')
lint: build
	@$(PY) -m ruff check
	@set -o pipefail; $(PY) -m mypy --python-executable $(PY) --cache-dir build/mypy | sed 's|.*site-packages/openmmspacetime/|python/openmmspacetime/|'
	@clang-format --dry-run -Werror $(CPP)
	@$(PY) tests/lint/tidy.py $(BUILD)

format:
	@clang-format -i $(CPP)

# dist/: the sdist, and the wheel with the oldest manylinux tag that this machine's libraries allow. OpenMM's and LibTorch's libraries are those of their own wheels.
dist: build
	@rm -rf dist build/wheel
	@$(PY) -m build --sdist --no-isolation --outdir dist . > build/sdist.log || { tail build/sdist.log; exit 1; }
	@$(PY) -m pip wheel $(PIP_BUILD) -w build/wheel .
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH auditwheel repair build/wheel/*.whl -w dist --exclude 'libOpenMM*' --exclude 'libtorch*' --exclude 'libc10*' > build/auditwheel.log 2>&1 || { tail build/auditwheel.log; exit 1; }
	@ls -l dist

# The wheel in a fresh virtual environment, for which OpenMM and numpy are downloaded.
test-package: dist
	@$(PY) tests/package/check_wheel.py dist/*.whl --sdist dist/*.tar.gz

demo: build
	@$(PY) examples/alanine_dipeptide/run.py --out examples/alanine_dipeptide/output --overwrite $(if $(QUICK),--quick)

demo-mixture: build
	@$(PY) examples/gaussian_mixture/run.py --out examples/gaussian_mixture/output --overwrite $(if $(QUICK),--quick)

# GALLERY=1: colour emoji from the model that ships, in place of digits from nothing.
demo-images: build
	@$(PY) examples/images/run.py --out examples/images/output$(if $(GALLERY),-gallery --gallery) --overwrite $(if $(QUICK),--quick)

# Every notebook, run from top to bottom, as a page in examples/notebooks/output; QUICK=1 for little statistics.
.PHONY: notebooks
notebooks: build
	@cd examples/notebooks && $(if $(QUICK),QUICK=1) $(CURDIR)/$(PY) -m nbconvert --to html --execute --output-dir output *.ipynb

# Each study goes on where it was interrupted, or replaces its own results; docs/studies.md says what they show and how long they take.
study-2d: build
	@$(PY) examples/published_2d/run.py --out examples/published_2d/output --overwrite $(if $(QUICK),--quick)

study-alanine: build
	@$(PY) examples/alanine_dipeptide/study.py --out examples/alanine_dipeptide/output-study$(if $(QUICK),-quick --quick)

study-maxflux: build
	@$(PY) examples/alanine_dipeptide/maxflux.py --out examples/alanine_dipeptide/output-maxflux$(if $(QUICK),-quick --quick)

study-implicit: build
	@$(PY) examples/alanine_implicit/run.py --out examples/alanine_implicit/output --resume $(if $(QUICK),--quick)

study-tetrapeptide: build
	@$(PY) examples/tetrapeptide/run.py --out examples/tetrapeptide/output --resume $(if $(QUICK),--quick)

studies: study-2d study-alanine study-maxflux study-implicit study-tetrapeptide

# Each benchmark leaves its page in docs/performance.
RECORD := $(PY) tests/benchmarks/record.py
BENCH_MODEL := $(if $(wildcard examples/alanine_dipeptide/output/model.safetensors),--model examples/alanine_dipeptide/output/model.safetensors)
bench: build
	@status=0; for b in "bench $(BENCH_MODEL)" denoisers forcebench pathbench "killtest --kills 50" committorbench densitybench "imagebench --exact"; do $(RECORD) $$b || status=1; done; exit $$status

# Hostile files: RUNS made-up ones for every reader, under AddressSanitizer and UndefinedBehaviorSanitizer (tests/fuzz/run.py says what counts as a finding).
RUNS ?= 10000000
HARDENING_APT := clang libclang-rt-14-dev valgrind
SANITIZED = cmake -S . -B $(1) -G Ninja -DPython_EXECUTABLE=$(CURDIR)/$(PY) -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -DSPACETIME_BUILD_PYTHON=OFF -DSPACETIME_BUILD_TORCH=OFF '-DSPACETIME_SANITIZE=$(2)' $(3) > $(1).log || { cat $(1).log; exit 1; }
build/.hardening: $(VENV)/.packages
	@$(call INSTALL,$(HARDENING_APT))
	@touch $@

fuzz: build/.hardening
	@$(call SANITIZED,build/asan,address;undefined,-DSPACETIME_BUILD_FUZZERS=ON)
	@ninja -C build/asan -j $(JOBS) --quiet fuzzers
	@$(PY) tests/fuzz/run.py --build build/asan --runs $(RUNS) --jobs $(JOBS)

# The C++ tests of core, diffusion, openmmapi and Reference under AddressSanitizer with UndefinedBehaviorSanitizer, under ThreadSanitizer and under valgrind.
# Left out, by label: torch (LibTorch is not instrumented), opencl, cuda, hip and cpu (nor are their drivers and OpenMM's threads).
sanitize: build build/.hardening
	@$(call SANITIZED,build/asan,address;undefined,-DSPACETIME_BUILD_FUZZERS=ON)
	@$(call SANITIZED,build/tsan,thread,)
	@$(PY) tests/hardening/sanitize.py --jobs $(JOBS) --asan build/asan --tsan build/tsan --valgrind $(BUILD)

# The site, in build/docs/html. Warnings are errors; nothing is fetched.
docs: build
	@$(PY) -c "import sphinx, myst_parser, furo, breathe, sphinx_external_toc, sphinx_copybutton" || { echo "make docs needs what requirements.txt names" >&2; exit 2; }
	@command -v doxygen > /dev/null || { rm -f build/.system; $(MAKE) --no-print-directory build/.system; }
	@mkdir -p build/docs && doxygen docs/Doxyfile
	@$(PY) -m sphinx -b html -q -W -n --keep-going -d build/docs/doctrees docs build/docs/html && echo "build/docs/html/index.html"

clean:
	rm -rf build
