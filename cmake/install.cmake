# cmake --install: the program with its model, the library, its headers, and how CMake (find_package(venturi))
# and pkg-config (venturi.pc) find it. The prefix may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS venturi RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS venturi_api EXPORT venturi_targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/venturi DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES models/tiny-llama-q8_0.gguf DESTINATION ${CMAKE_INSTALL_DATADIR}/venturi/models)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/venturi)
install(EXPORT venturi_targets NAMESPACE venturi:: FILE venturi-config.cmake DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/venturi-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/venturi-config-version.cmake DESTINATION ${package_folder})

file(RELATIVE_PATH prefix_from_pc /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
configure_file(cmake/venturi.pc.in ${PROJECT_BINARY_DIR}/venturi.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/venturi.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
