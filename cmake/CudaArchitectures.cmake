# Sets CMAKE_CUDA_ARCHITECTURES from NEURAL3D_ARCHITECTURES. Runs before the CUDA language is enabled, whose own check of
# the compiler already uses the result.
find_program(CMAKE_CUDA_COMPILER nvcc REQUIRED)

if(NEURAL3D_ARCHITECTURES STREQUAL "" OR NEURAL3D_ARCHITECTURES STREQUAL "native")
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE capabilities ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${capabilities}")
    string(REPLACE "." "" CMAKE_CUDA_ARCHITECTURES "${capabilities}")
    list(REMOVE_DUPLICATES CMAKE_CUDA_ARCHITECTURES)
  elseif(NEURAL3D_ARCHITECTURES STREQUAL "native")
    message(FATAL_ERROR "NEURAL3D_CUDA_ARCHITECTURES=native, but nvidia-smi shows no GPU: name one, e.g. 86, or say all.")
  endif()
elseif(NOT NEURAL3D_ARCHITECTURES STREQUAL "all")
  set(CMAKE_CUDA_ARCHITECTURES ${NEURAL3D_ARCHITECTURES})
endif()

if(NOT CMAKE_CUDA_ARCHITECTURES)  # all that we release for and this nvcc knows, and PTX of the last for what comes after
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known COMMAND_ERROR_IS_FATAL ANY)
  foreach(architecture 75 80 86 89 90 100 120)
    if(known MATCHES "compute_${architecture}\n")
      list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture}-real)
    endif()
  endforeach()
  string(REGEX REPLACE "-real$" "" CMAKE_CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
endif()
message(STATUS "CUDA kernels for ${CMAKE_CUDA_ARCHITECTURES}, by ${CMAKE_CUDA_COMPILER}")
