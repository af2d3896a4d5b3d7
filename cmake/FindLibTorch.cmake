# SPDX-License-Identifier: MIT
# LibTorch out of the torch wheel, linked by path: the wheel's own CMake package demands a CUDA toolkit and links libtorch_cuda.
# Gives LibTorch_VERSION and the target LibTorch::CPU.
execute_process(
    COMMAND ${Python_EXECUTABLE} -c
"import importlib.util, os, runpy, sys
spec = importlib.util.find_spec('torch')
if spec is None: sys.exit('torch is not installed for ' + sys.executable)
root = spec.submodule_search_locations[0]
print(runpy.run_path(os.path.join(root, 'version.py'))['__version__'] + ';' + root, end='')"
    OUTPUT_VARIABLE _torch_info ERROR_VARIABLE _torch_error RESULT_VARIABLE _torch_result)
if(_torch_result EQUAL 0)
    list(GET _torch_info 0 LibTorch_VERSION)
    list(GET _torch_info 1 LibTorch_ROOT_DIR)
    string(REGEX REPLACE "\\+.*" "" LibTorch_VERSION "${LibTorch_VERSION}")
endif()
find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/torch.h PATHS ${LibTorch_ROOT_DIR}/include NO_DEFAULT_PATH)
find_library(LibTorch_LIBRARY torch_cpu PATHS ${LibTorch_ROOT_DIR}/lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 PATHS ${LibTorch_ROOT_DIR}/lib NO_DEFAULT_PATH)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR VERSION_VAR LibTorch_VERSION
    REASON_FAILURE_MESSAGE "${_torch_error} (pip install 'torch>=2.11,<2.12')")
if(LibTorch_FOUND AND NOT TARGET LibTorch::CPU)
    add_library(LibTorch::C10 SHARED IMPORTED)
    set_target_properties(LibTorch::C10 PROPERTIES IMPORTED_LOCATION ${LibTorch_C10_LIBRARY})
    add_library(LibTorch::CPU SHARED IMPORTED)
    set_target_properties(LibTorch::CPU PROPERTIES
        IMPORTED_LOCATION ${LibTorch_LIBRARY}
        INTERFACE_LINK_LIBRARIES LibTorch::C10
        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include"
        INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
endif()
