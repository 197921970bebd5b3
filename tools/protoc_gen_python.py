"""A protoc plugin that generates ``*_pb2.py`` and ``*_pb2_grpc.py``, for ``buf generate``.

Both generators are those of grpcio-tools, which carries them inside its own protoc, not as plugins that buf could call.
This hands buf's request to that protoc and its files back to buf.

``google.rpc`` is the one import that neither grpcio nor protobuf brings. So that the client needs nothing else, its
generated code takes these modules from ``sred.email.v1.google_rpc``: that is googleapis-common-protos where it is
installed, otherwise the copy that is generated here from third_party.

Source: the plugin protocol, google/protobuf/compiler/plugin.proto.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

GOOGLEAPIS = Path(__file__).resolve().parent.parent / "third_party" / "googleapis"
GOOGLE_RPC = ("google/rpc/error_details.proto", "google/rpc/status.proto")
CHOICE = "sred.email.v1.google_rpc"
COPY = f"{CHOICE}.copy"


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Generate the modules of the files that a request names, and the copies of google.rpc.

    Args:
        request: What buf asks for: the files, and the descriptors of all that they import.

    Returns:
        Two modules for each file and one for each copy, or the error.
    """
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with TemporaryDirectory() as temporary:
        descriptors = Path(temporary, "descriptors")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        generated, copies = Path(temporary, "generated"), Path(temporary, "copies")
        outputs = (f"--python_out={generated}", f"--grpc_python_out={request.parameter}:{generated}")
        for folder, arguments in (
            (generated, (f"--descriptor_set_in={descriptors}", *outputs, *request.file_to_generate)),
            (copies, (f"-I{GOOGLEAPIS}", f"-I{_own_protos()}", f"--python_out={copies}", *GOOGLE_RPC)),
        ):
            folder.mkdir()
            status: int = protoc.main(["protoc", *arguments])
            if status != 0:
                response.error = f"grpc_tools.protoc ended with {status}; what it said is above"
                return response
        for path in sorted(generated.rglob("*.py")):
            content = path.read_text(encoding="utf-8").replace("from google.rpc import", f"from {CHOICE} import")
            response.file.add(name=path.relative_to(generated).as_posix(), content=content)
        for path in sorted(copies.rglob("*.py")):
            content = path.read_text(encoding="utf-8").replace("'google.rpc.", f"'{COPY}.")
            response.file.add(name=f"{COPY.replace('.', '/')}/{path.name}", content=content)
    return response


def _own_protos() -> Path:
    """Find google/protobuf/*.proto, which grpcio-tools brings."""
    return Path(protoc.__file__).parent / "_proto"


if __name__ == "__main__":
    sys.stdout.buffer.write(generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read())).SerializeToString())
