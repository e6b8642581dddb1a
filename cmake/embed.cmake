# venturi_embed(HEADER NAMESPACE file...)
#
# Writes generated/HEADER: for every file the bytes as `inline constexpr unsigned char name_ext[]`, so that
# the program carries it.
function(venturi_embed header namespace)
  set(text "// Written by the build from files. Do not edit.\n#pragma once\n\nnamespace ${namespace} {\n")
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME)
    string(MAKE_C_IDENTIFIER ${name} name)
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND text "inline constexpr unsigned char ${name}[] = {${bytes}};\n")
  endforeach()
  string(APPEND text "}  // namespace ${namespace}\n")
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/${header} CONTENT "${text}" @ONLY)
endfunction()
