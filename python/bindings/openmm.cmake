# SPDX-License-Identifier: MIT
# The SWIG module openmmspacetime.openmm_wrapper. OpenMM's wheels use SWIG's runtime version 5, which needs SWIG 4.4 or newer: an older one
# builds, imports, and then fails at System.addForce.
# Beside Python first (pip install swig), then on the PATH.
get_filename_component(_python_bin ${Python_EXECUTABLE} DIRECTORY)
find_program(SPACETIME_SWIG_BESIDE_PYTHON NAMES swig PATHS ${_python_bin} NO_DEFAULT_PATH)
find_program(SPACETIME_SWIG_ON_PATH NAMES swig)
set(_swig "")
foreach(_candidate ${SPACETIME_SWIG_BESIDE_PYTHON} ${SPACETIME_SWIG_ON_PATH})
    if(_candidate AND NOT _swig)
        execute_process(COMMAND ${_candidate} -version OUTPUT_VARIABLE _swig_version ERROR_QUIET)
        if(_swig_version MATCHES "SWIG Version ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL 4.4)
            set(_swig ${_candidate})
        endif()
    endif()
endforeach()
if(NOT _swig)
    message(FATAL_ERROR "No SWIG of version 4.4 or newer was found (pip install 'swig>=4.4')")
endif()

set(_wrapper_cpp ${CMAKE_CURRENT_BINARY_DIR}/openmm_wrapper.cpp)
set(_wrapper_py ${CMAKE_CURRENT_BINARY_DIR}/openmm_wrapper.py)
add_custom_command(
    OUTPUT ${_wrapper_cpp} ${_wrapper_py}
    COMMAND ${_swig} -python -c++ -outdir ${CMAKE_CURRENT_BINARY_DIR} -o ${_wrapper_cpp} ${CMAKE_CURRENT_LIST_DIR}/openmm.i
    DEPENDS ${CMAKE_CURRENT_LIST_DIR}/openmm.i ${CMAKE_CURRENT_LIST_DIR}/openmm_types.i
    VERBATIM)
Python_add_library(openmm_wrapper MODULE ${_wrapper_cpp} WITH_SOABI)
set_target_properties(openmm_wrapper PROPERTIES OUTPUT_NAME _openmm_wrapper INSTALL_RPATH "$ORIGIN/../${SPACETIME_OPENMM_LIB_DIR}")
# Generated code: its warnings are not ours.
target_compile_options(openmm_wrapper PRIVATE -w)
target_link_libraries(openmm_wrapper PRIVATE OpenMMSpacetime)
install(TARGETS openmm_wrapper LIBRARY DESTINATION ${SPACETIME_PACKAGE_DIR} COMPONENT openmm)
install(FILES ${_wrapper_py} DESTINATION ${SPACETIME_PACKAGE_DIR} COMPONENT openmm)
# The versions of this build, for the check at import and for the status. The LibTorch is that of plugin/diffusion.
file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/_built_against.py CONTENT "# Written by CMake.\nOPENMM_VERSION = \"${OpenMM_VERSION}\"\nTORCH_VERSION = \"${LibTorch_VERSION}\"\nVERSION = \"${SPACETIME_VERSION}\"\n")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/_built_against.py DESTINATION ${SPACETIME_PACKAGE_DIR} COMPONENT openmm)
