# SPDX-License-Identifier: MIT
# The headers of CUDA that OpenMM's CudaContext.h includes: no compiler and no library of CUDA is needed.
# First the wheels that lie beside Python_EXECUTABLE (CUDA 13: nvidia-cuda-runtime and nvidia-cuda-crt share one folder, CUDA 12: a folder each), then a toolkit.
# One source gives all of them, since headers of two CUDA versions do not mix. Set CudaHeaders_INCLUDE_DIRS to name the folders yourself.
# Gives CudaHeaders_FOUND, CudaHeaders_VERSION (12.4, say), CudaHeaders_INCLUDE_DIRS and the target CudaHeaders::CudaHeaders, whose headers count as SYSTEM.
set(_cuda_headers cuda.h builtin_types.h vector_functions.h crt/host_defines.h)
set(_cuda_tried "")
# Sets RESULT where the folders together hold every header, else notes what lacks.
function(_cuda_headers_in RESULT FOLDERS)
    foreach(_header IN LISTS _cuda_headers)
        unset(_path)
        find_file(_path ${_header} PATHS ${FOLDERS} NO_DEFAULT_PATH NO_CACHE)
        if(NOT _path)
            list(JOIN FOLDERS " + " _folders)
            set(_cuda_tried "${_cuda_tried}\n    ${_folders} has no ${_header}" PARENT_SCOPE)
            return()
        endif()
    endforeach()
    set(${RESULT} "${FOLDERS}" PARENT_SCOPE)
endfunction()

set(_cuda_found "${CudaHeaders_INCLUDE_DIRS}")
if(NOT _cuda_found)
    # `nvidia` is a namespace package: an isolated build has its folders in several places.
    execute_process(COMMAND ${Python_EXECUTABLE} -c
"import importlib.util
spec = importlib.util.find_spec('nvidia')
print(';'.join(spec.submodule_search_locations) if spec else '', end='')" OUTPUT_VARIABLE _cuda_roots)
    foreach(_root IN LISTS _cuda_roots)
        file(GLOB _cuda_folders ${_root}/cu[1-9]*/include)
        list(SORT _cuda_folders COMPARE NATURAL ORDER DESCENDING)
        foreach(_folder IN LISTS _cuda_folders)
            if(NOT _cuda_found)
                _cuda_headers_in(_cuda_found ${_folder})
            endif()
        endforeach()
        if(NOT _cuda_found AND EXISTS ${_root}/cuda_runtime/include)
            _cuda_headers_in(_cuda_found "${_root}/cuda_runtime/include;${_root}/cuda_nvcc/include")
        endif()
    endforeach()
endif()
if(NOT _cuda_found)
    find_package(CUDAToolkit QUIET)
    if(CUDAToolkit_FOUND)
        _cuda_headers_in(_cuda_found "${CUDAToolkit_INCLUDE_DIRS}")
    endif()
endif()
set(CudaHeaders_INCLUDE_DIRS "${_cuda_found}")
unset(CudaHeaders_VERSION)
find_file(_cuda_h cuda.h PATHS ${CudaHeaders_INCLUDE_DIRS} NO_DEFAULT_PATH NO_CACHE)
if(_cuda_h)
    file(STRINGS ${_cuda_h} _cuda_version REGEX "#define CUDA_VERSION +[0-9]+")
    string(REGEX REPLACE "[^0-9]" "" _cuda_version "${_cuda_version}")
    math(EXPR _cuda_major "${_cuda_version} / 1000")
    math(EXPR _cuda_minor "${_cuda_version} % 1000 / 10")
    set(CudaHeaders_VERSION ${_cuda_major}.${_cuda_minor})
endif()
unset(_cuda_h)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CudaHeaders REQUIRED_VARS CudaHeaders_INCLUDE_DIRS VERSION_VAR CudaHeaders_VERSION
    REASON_FAILURE_MESSAGE "(pip install 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*', or install a CUDA toolkit)${_cuda_tried}")
if(CudaHeaders_FOUND AND NOT TARGET CudaHeaders::CudaHeaders)
    add_library(CudaHeaders::CudaHeaders INTERFACE IMPORTED)
    set_target_properties(CudaHeaders::CudaHeaders PROPERTIES
        # OpenMM's headers use double4, which CUDA 13 deprecates: one warning a mention otherwise.
        INTERFACE_COMPILE_DEFINITIONS __NV_NO_VECTOR_DEPRECATION_DIAG
        INTERFACE_INCLUDE_DIRECTORIES "${CudaHeaders_INCLUDE_DIRS}" INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${CudaHeaders_INCLUDE_DIRS}")
endif()
