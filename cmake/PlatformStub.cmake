# SPDX-License-Identifier: MIT
# spacetime_platform_stub(OpenMMCUDA) makes the target OpenMMCUDA, an empty library whose SONAME is libOpenMMCUDA.so.
# A library linked to it names libOpenMMCUDA.so as needed without OpenMM's CUDA wheel being there, so that one binary serves every wheel with that library.
# What uses the stub must not be linked with --no-undefined: the platform's symbols are found when OpenMM loads it. The stub is never installed.
function(spacetime_platform_stub NAME)
    set(_source ${CMAKE_CURRENT_BINARY_DIR}/stubs/${NAME}.cpp)
    file(CONFIGURE OUTPUT ${_source} CONTENT "// No symbols: only the name of the library counts.\n")
    add_library(${NAME} SHARED ${_source})
    # In a folder of its own, where no search for the real library comes by.
    set_target_properties(${NAME} PROPERTIES OUTPUT_NAME ${NAME} PREFIX lib SUFFIX .so LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/stubs)
    # No symbol of ours is found in it, so a linker that drops unused libraries would drop it.
    target_link_options(${NAME} INTERFACE LINKER:--no-as-needed)
endfunction()
