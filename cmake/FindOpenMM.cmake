# SPDX-License-Identifier: MIT
# OpenMM's Python wheel is the SDK: headers and libraries lie in site-packages/OpenMM.libs.
# Gives OpenMM_VERSION, OpenMM_ROOT_DIR and the targets OpenMM::OpenMM.
# The package is located without being imported: importing it would load every installed plugin, our own included.
execute_process(
    COMMAND ${Python_EXECUTABLE} -c
"import importlib.util, os, runpy, sys
spec = importlib.util.find_spec('openmm')
if spec is None: sys.exit('openmm is not installed for ' + sys.executable)
v = runpy.run_path(os.path.join(spec.submodule_search_locations[0], 'version.py'))
print(v['short_version'] + ';' + os.path.dirname(os.path.abspath(v['openmm_library_path'])), end='')"
    OUTPUT_VARIABLE _openmm_info ERROR_VARIABLE _openmm_error RESULT_VARIABLE _openmm_result)
if(_openmm_result EQUAL 0)
    list(GET _openmm_info 0 OpenMM_VERSION)
    list(GET _openmm_info 1 OpenMM_ROOT_DIR)
endif()
find_path(OpenMM_INCLUDE_DIR OpenMM.h PATHS ${OpenMM_ROOT_DIR}/include NO_DEFAULT_PATH)
find_library(OpenMM_LIBRARY OpenMM PATHS ${OpenMM_ROOT_DIR}/lib NO_DEFAULT_PATH)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenMM REQUIRED_VARS OpenMM_LIBRARY OpenMM_INCLUDE_DIR VERSION_VAR OpenMM_VERSION
    REASON_FAILURE_MESSAGE "${_openmm_error} (pip install 'openmm>=8.6.1,<8.7')")
if(OpenMM_FOUND AND NOT TARGET OpenMM::OpenMM)
    add_library(OpenMM::OpenMM SHARED IMPORTED)
    set_target_properties(OpenMM::OpenMM PROPERTIES
        IMPORTED_LOCATION ${OpenMM_LIBRARY}
        INTERFACE_INCLUDE_DIRECTORIES "${OpenMM_INCLUDE_DIR};${OpenMM_INCLUDE_DIR}/openmm/reference")
endif()
