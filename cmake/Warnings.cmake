# Every warning is an error in our own code; generated code is compiled without (see proto/CMakeLists.txt).
add_library(bitacora_warnings INTERFACE)
target_compile_options(bitacora_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Woverloaded-virtual -Wimplicit-fallthrough -Wnull-dereference -Werror)
# g++ 12 reports false positives of these inside the standard library's own headers when it inlines them.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(bitacora_warnings INTERFACE -Wno-null-dereference -Wno-error=restrict -Wno-error=maybe-uninitialized)
endif()

# One library per folder: bitacora_library(wal SOURCES a.cc b.cc DEPENDS bitacora_base ...)
function(bitacora_library name)
  cmake_parse_arguments(LIB "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(bitacora_${name} STATIC ${LIB_SOURCES})
  target_link_libraries(bitacora_${name} PUBLIC ${LIB_DEPENDS} PRIVATE ${LIB_PRIVATE_DEPENDS} bitacora_warnings)
endfunction()
