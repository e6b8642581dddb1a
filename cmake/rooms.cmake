# A room is a folder under src/: one static library, its unit tests beside its sources.
#
#   venturi_room(NAME [DEPS target...])
#
# Sources are found by pattern, so a new member (a codec, an architecture, a tokenizer) is one new
# file and no edit here. Files named *_test.cc become one test program, venturi_NAME_test.
function(venturi_room name)
  cmake_parse_arguments(ROOM "" "" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(sources)
    add_library(venturi_${name} STATIC ${sources})
    target_include_directories(venturi_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src
                                                      ${PROJECT_BINARY_DIR}/generated)
    target_link_libraries(venturi_${name} PUBLIC ${ROOM_DEPS})
  else()
    add_library(venturi_${name} INTERFACE)
    target_include_directories(venturi_${name} INTERFACE ${PROJECT_SOURCE_DIR}/src
                                                         ${PROJECT_BINARY_DIR}/generated)
    target_link_libraries(venturi_${name} INTERFACE ${ROOM_DEPS})
  endif()
  if(VENTURI_TESTS AND tests)
    add_executable(venturi_${name}_test ${tests})
    target_link_libraries(venturi_${name}_test PRIVATE venturi_${name} GTest::gtest_main GTest::gmock)
    target_compile_definitions(venturi_${name}_test PRIVATE
      VENTURI_SOURCE_DIR="${PROJECT_SOURCE_DIR}" VENTURI_SHARED_DIR="${PROJECT_SOURCE_DIR}/../shared")
    gtest_discover_tests(venturi_${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 600)
  endif()
endfunction()

# venturi_registry(HEADER TYPE PREFIX SUFFIX file...)
#
# Writes generated/HEADER: for every file `x.cc` the declaration `extern const TYPE PREFIXx;` and the
# table kAll with a pointer to each, in order of file name. A plug-in is one file that defines the
# object named after it; nothing else is edited, and a static library cannot drop it.
function(venturi_registry header type namespace prefix)
  set(declarations "")
  set(table "")
  foreach(file ${ARGN})
    get_filename_component(stem ${file} NAME_WE)
    string(APPEND declarations "extern const ${type} ${prefix}${stem};\n")
    string(APPEND table "    &${prefix}${stem},\n")
  endforeach()
  set(text "// Written by the build from the files of the folder. Do not edit.\n#pragma once\n\nnamespace ${namespace} {\n${declarations}\ninline const ${type}* const kAll_${type}[] = {\n${table}};\n}  // namespace ${namespace}\n")
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/${header} CONTENT "${text}" @ONLY)
endfunction()
