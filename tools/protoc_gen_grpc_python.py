"""A protoc plugin that generates ``*_pb2_grpc.py``, for ``buf generate``.

grpcio-tools carries the generator of these files inside its own protoc, not as a plugin that buf could call. This hands
buf's request to that protoc and its files back to buf.

Source: the plugin protocol, google/protobuf/compiler/plugin.proto.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Generate the gRPC modules of the files that a request names.

    Args:
        request: What buf asks for: the files, and the descriptors of all that they import.

    Returns:
        One module for each file, or the error.
    """
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with TemporaryDirectory() as temporary:
        descriptors = Path(temporary, "descriptors")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        generated = Path(temporary, "generated")
        generated.mkdir()
        status: int = protoc.main(
            [
                "protoc",
                f"--descriptor_set_in={descriptors}",
                f"--grpc_python_out={request.parameter}:{generated}",
                *request.file_to_generate,
            ]
        )
        if status != 0:
            response.error = f"grpc_tools.protoc ended with {status}; what it said is above"
            return response
        for path in sorted(generated.rglob("*.py")):
            response.file.add(name=path.relative_to(generated).as_posix(), content=path.read_text(encoding="utf-8"))
    return response


if __name__ == "__main__":
    sys.stdout.buffer.write(generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read())).SerializeToString())
