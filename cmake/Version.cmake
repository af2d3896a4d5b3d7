# SPDX-License-Identifier: MIT
# Gives SPACETIME_VERSION (0.1.1.dev7+g1234abc, say), which the program and the Python package print, and SPACETIME_VERSION_NUMBER (0.1.1), which CMake compares.
# A build by pip says which version it makes. A build by CMake alone asks what pip would ask: setuptools_scm, where it is installed.
if(DEFINED SKBUILD_PROJECT_VERSION_FULL)
    set(SPACETIME_VERSION ${SKBUILD_PROJECT_VERSION_FULL})
else()
    set(_python python3)
    if(Python_EXECUTABLE)
        set(_python ${Python_EXECUTABLE})
    endif()
    execute_process(COMMAND ${_python} -m setuptools_scm WORKING_DIRECTORY ${CMAKE_CURRENT_LIST_DIR}/..
        OUTPUT_VARIABLE SPACETIME_VERSION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE _result)
    if(NOT _result EQUAL 0)
        file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/../pyproject.toml SPACETIME_VERSION REGEX "^fallback_version")
        string(REGEX REPLACE ".*\"(.*)\"" "\\1" SPACETIME_VERSION ${SPACETIME_VERSION})
        message(STATUS "The version is taken to be ${SPACETIME_VERSION} (pip install setuptools-scm, for that of the git tag)")
    endif()
endif()
string(REGEX MATCH "^[0-9]+(\\.[0-9]+)*" SPACETIME_VERSION_NUMBER ${SPACETIME_VERSION})
