# SPDX-License-Identifier: MIT
# What a C++ program needs beside the libraries: the public headers and a CMake package, both in the folders of OpenMM's wheel.
include(CMakePackageConfigHelpers)
set(SPACETIME_OPENMM_INCLUDE_DIR OpenMM.libs/include)
set(SPACETIME_OPENMM_PYTHON_DIR openmm)
set(SPACETIME_OPENMM_CMAKE_DIR ${SPACETIME_OPENMM_LIB_DIR}/cmake/OpenMMSpacetime)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" SPACETIME_OPENMM_SERIES ${OpenMM_VERSION})
string(REPLACE "." "\\." SPACETIME_OPENMM_SERIES_REGEX ${SPACETIME_OPENMM_SERIES})

# Internal headers go along only where a public one includes them.
set(_root ${PROJECT_SOURCE_DIR}/plugin/openmmapi/include)
file(GLOB _headers RELATIVE ${_root} CONFIGURE_DEPENDS ${_root}/openmmspacetime/*.h)
set(_installed "")
while(_headers)
    list(POP_FRONT _headers _header)
    list(APPEND _installed ${_header})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${_root}/${_header})
    file(STRINGS ${_root}/${_header} _includes REGEX "^#include \"openmmspacetime/")
    list(TRANSFORM _includes REPLACE "^#include \"([^\"]+)\".*" "\\1")
    list(REMOVE_ITEM _includes "" ${_installed})
    list(APPEND _headers ${_includes})
    list(REMOVE_DUPLICATES _headers)
endwhile()
foreach(_header IN LISTS _installed)
    get_filename_component(_folder ${_header} DIRECTORY)
    install(FILES ${_root}/${_header} DESTINATION ${SPACETIME_OPENMM_INCLUDE_DIR}/${_folder} COMPONENT openmm)
endforeach()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/OpenMMSpacetimeConfig.cmake.in ${PROJECT_BINARY_DIR}/OpenMMSpacetimeConfig.cmake
    INSTALL_DESTINATION ${SPACETIME_OPENMM_CMAKE_DIR}
    PATH_VARS SPACETIME_OPENMM_LIB_DIR SPACETIME_OPENMM_PLUGIN_DIR SPACETIME_OPENMM_INCLUDE_DIR SPACETIME_OPENMM_PYTHON_DIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/OpenMMSpacetimeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/OpenMMSpacetimeConfig.cmake ${PROJECT_BINARY_DIR}/OpenMMSpacetimeConfigVersion.cmake
    DESTINATION ${SPACETIME_OPENMM_CMAKE_DIR} COMPONENT openmm)
