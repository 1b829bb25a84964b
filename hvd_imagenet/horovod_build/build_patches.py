"""Patches that make Horovod 0.28.1 build against current frameworks, quickly, and find MPI at run time."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

BUILD_PATCHES = (
    Patch(
        name="cxx17",
        reason="The headers of torch 2.1 and later need C++17; Horovod asks for C++14.",
        upstream="horovod/horovod#3998",
        edits=(
            Edit("CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
            Edit("horovod/torch/CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
        ),
    ),
    Patch(
        name="no-xla-kernels",
        reason=(
            "TensorFlow 2.18 moved or dropped headers that xla_mpi_ops.cc includes. Without the file there is no XLA "
            "kernel for the collectives, so a step that communicates must not be compiled by XLA."
        ),
        upstream="horovod/horovod#4302",
        edits=(
            Edit(
                "horovod/tensorflow/CMakeLists.txt",
                'list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/xla_mpi_ops.cc")\n',
                "",
            ),
        ),
    ),
    Patch(
        name="gloo-interface-of-process-sets",
        reason=(
            "The Gloo context of a process set ignores the interface that was asked for and falls back to the host's "
            "name, which Debian maps to 127.0.1.1: over several hosts every run dies with 'Connection refused'."
        ),
        upstream="not reported",
        edits=(
            Edit(
                "horovod/common/gloo/gloo_context.cc",
                '    LOG(DEBUG) << "no rendezvous server provided, assuming single process execution";\n'
                "  }\n\n"
                "  attr device_attr;\n"
                "  device_attr.iface = gloo_iface_;\n"
                "  device_attr.ai_family = AF_UNSPEC;\n",
                '    LOG(DEBUG) << "no rendezvous server provided, assuming single process execution";\n'
                "  }\n\n"
                "  gloo_iface_ = global_context.gloo_iface_;\n"
                "  attr device_attr;\n"
                "  device_attr.iface = gloo_iface_;\n"
                "  device_attr.ai_family = AF_UNSPEC;\n",
            ),
        ),
    ),
    Patch(
        name="python-headers-without-distutils",
        reason="Python 3.12 has no distutils; sysconfig knows where Python.h is on every version.",
        upstream="not reported",
        edits=(
            Edit(
                "horovod/torch/CMakeLists.txt",
                '"from distutils.sysconfig import get_python_inc; print(get_python_inc())"',
                "\"import sysconfig; print(sysconfig.get_path('include'))\"",
            ),
        ),
    ),
    Patch(
        name="no-debug-information",
        reason="The default build type carries -g, which costs minutes and tens of megabytes.",
        upstream="not reported",
        edits=(
            Edit(
                "CMakeLists.txt",
                'string(REPLACE "-O2" "-O3" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")',
                'set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -DNDEBUG")',
            ),
        ),
    ),
    Patch(
        name="gloo-once",
        reason="Gloo is compiled once as C++11 for torch and once as C++17 for TensorFlow; as C++17 it serves both.",
        upstream="not reported",
        edits=(
            Edit("third_party/gloo/CMakeLists.txt", "-std=c++11", "-std=c++17"),
            Edit(
                "CMakeLists.txt",
                "if(HAVE_GLOO AND (DEFINED Tensorflow_CXX17 AND Tensorflow_CXX17))",
                "if(FALSE)  # third_party/gloo is C++17 already",
            ),
            Edit(
                "horovod/tensorflow/CMakeLists.txt",
                "    if (Tensorflow_CXX17)\n       list(APPEND TF_LINKER_LIBS compatible17_gloo)\n"
                "    elseif (Tensorflow_CXX11)",
                "    if (Tensorflow_CXX11)",
            ),
        ),
    ),
    Patch(
        name="common-once",
        reason=(
            "Horovod's own sources are compiled once for TensorFlow and again for torch, though the result is the "
            "same when both use one C++ ABI and none of them CUDA or ROCm."
        ),
        upstream="not reported",
        edits=(
            Edit(
                "horovod/tensorflow/CMakeLists.txt",
                "add_library(${TF_TARGET_LIB} SHARED ${SOURCES} ${TF_SOURCES})\n"
                "if (NOT EIGEN_INCLUDE_PATH STREQUAL Tensorflow_INCLUDE_DIRS)\n"
                "    target_include_directories(${TF_TARGET_LIB} PRIVATE ${EIGEN_INCLUDE_PATH})\n"
                "endif()\n"
                "if (NOT FLATBUFFERS_INCLUDE_PATH STREQUAL Tensorflow_INCLUDE_DIRS)\n"
                "    target_include_directories(${TF_TARGET_LIB} PRIVATE ${FLATBUFFERS_INCLUDE_PATH})\n"
                "endif()\n",
                "add_library(horovod_common OBJECT ${SOURCES})\n"
                "add_library(${TF_TARGET_LIB} SHARED $<TARGET_OBJECTS:horovod_common> ${TF_SOURCES})\n"
                "foreach(_TARGET horovod_common ${TF_TARGET_LIB})\n"
                "    if (NOT EIGEN_INCLUDE_PATH STREQUAL Tensorflow_INCLUDE_DIRS)\n"
                "        target_include_directories(${_TARGET} PRIVATE ${EIGEN_INCLUDE_PATH})\n"
                "    endif()\n"
                "    if (NOT FLATBUFFERS_INCLUDE_PATH STREQUAL Tensorflow_INCLUDE_DIRS)\n"
                "        target_include_directories(${_TARGET} PRIVATE ${FLATBUFFERS_INCLUDE_PATH})\n"
                "    endif()\n"
                "endforeach()\n"
                "if(NOT HAVE_CUDA AND NOT HAVE_ROCM)\n"
                "    set(HOROVOD_COMMON_CXX11 ${Tensorflow_CXX11} PARENT_SCOPE)\n"
                "endif()\n",
            ),
            Edit(
                "horovod/torch/CMakeLists.txt",
                "add_library(${PYTORCH_TARGET_LIB} SHARED ${SOURCES} ${PYTORCH_SOURCES})\n",
                "if(TARGET horovod_common AND HOROVOD_COMMON_CXX11 AND Pytorch_CXX11 AND NOT HAVE_CUDA"
                " AND NOT HAVE_ROCM)\n"
                "    set(SOURCES $<TARGET_OBJECTS:horovod_common>)\n"
                "endif()\n"
                "add_library(${PYTORCH_TARGET_LIB} SHARED ${SOURCES} ${PYTORCH_SOURCES})\n",
            ),
        ),
    ),
    Patch(
        name="fewer-torch-headers",
        reason=(
            "torch/extension.h and torch/torch.h bring in all of torch's C++ interface (layers, optimizers, loaders); "
            "the binding needs tensors and their conversion from Python, and compiles in less than half the time."
        ),
        upstream="not reported",
        edits=(
            Edit(
                "horovod/torch/adapter_v2.h",
                "#include <torch/extension.h>\n#include <torch/torch.h>\n",
                "#include <torch/types.h>\n",
            ),
            Edit(
                "horovod/torch/mpi_ops_v2.cc",
                "#include <torch/extension.h>\n#include <torch/torch.h>\n",
                "#include <torch/csrc/utils/pybind.h>\n#include <torch/types.h>\n",
            ),
        ),
    ),
    Patch(
        name="relative-rpath",
        reason=(
            "A wheel from the cache may go into another environment: libmpi is looked for relative to the extension "
            "first, so that it is that environment's, and no LD_LIBRARY_PATH is needed."
        ),
        upstream="not reported",
        edits=(
            Edit(
                "CMakeLists.txt",
                "project(horovod CXX)\n",
                'project(horovod CXX)\n\nset(CMAKE_BUILD_RPATH "$ENV{HOROVOD_BUILD_RPATH}")\n',
            ),
        ),
    ),
    Patch(
        name="record-what-was-built",
        reason="horovodrun asks what was built in; the record lets it answer without importing a framework.",
        upstream="not reported",
        edits=(
            Edit(
                "CMakeLists.txt",
                'file(APPEND "${CMAKE_LIBRARY_OUTPUT_DIRECTORY_ROOT}/metadata.json" "\\"dummy\\": \\"none\\"\\n}")',
                "foreach(_FEATURE MPI GLOO NCCL DDL CCL)\n"
                "    set(_BUILT false)\n"
                "    if(HAVE_${_FEATURE})\n"
                "        set(_BUILT true)\n"
                "    endif()\n"
                '    string(TOLOWER "${_FEATURE}" _FEATURE)\n'
                '    file(APPEND "${CMAKE_LIBRARY_OUTPUT_DIRECTORY_ROOT}/metadata.json"'
                ' "\\"${_FEATURE}_built\\": ${_BUILT},\\n")\n'
                "endforeach()\n"
                'file(APPEND "${CMAKE_LIBRARY_OUTPUT_DIRECTORY_ROOT}/metadata.json" "\\"dummy\\": \\"none\\"\\n}")',
            ),
        ),
    ),
)
