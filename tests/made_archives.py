"""Archives for tests: zip, tar and rar files of given contents."""

import io
import struct
import tarfile
import zipfile
import zlib


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def tar_of(path, files, mode="w"):
    with tarfile.open(path, mode) as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def rar_block(kind, flags, body, data=b""):
    """A block of a RAR 4 archive: CRC-16, type, flags, size, fields."""
    header = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header + data


def rar_member(name, content, *, method=0x30, attributes=0o100644, crc=None, size=None):
    packed = len(content)
    size = packed if size is None else size
    encoded = name.encode()
    crc = zlib.crc32(content) if crc is None else crc
    unix, no_date, version = 3, 0, 20
    body = struct.pack("<LLBLLBBHL", packed, size, unix, crc, no_date, version, method,
                       len(encoded), attributes)  # fmt: skip
    return rar_block(0x74, 0x8000, body + encoded, content)


def rar_of(path, files=None, *members):
    """Write a RAR 4 archive whose members are stored."""
    members = [*members, *(rar_member(*item) for item in (files or {}).items())]
    head = b"Rar!\x1a\x07\x00" + rar_block(0x73, 0, bytes(6))
    path.write_bytes(head + b"".join(members) + rar_block(0x7B, 0x4000, b""))
    return path


def vint(number):
    """A number of RAR 5: seven bits a byte, the lowest first."""
    low = number & 0x7F
    return bytes([low | 0x80]) + vint(number >> 7) if number > 0x7F else bytes([low])


def rar5_block(fields, data=b""):
    header = vint(len(fields)) + fields
    return struct.pack("<L", zlib.crc32(header)) + header + data


def rar5_of(path, files, link=None):
    """Write a RAR 5 archive whose members are stored; ``link`` redirects the first one."""
    blocks = [b"Rar!\x1a\x07\x01\x00", rar5_block(vint(1) + vint(0) + vint(0))]
    for name, content in files.items():
        extra = b""
        if link is not None:
            record = vint(5) + vint(1) + vint(0) + vint(len(link)) + link.encode()
            extra, link = vint(len(record)) + record, None
        file, has_crc, method, unix, mode = 2, 4, 0, 1, 0o100644
        flags = 2 | (1 if extra else 0)  # a data area, an extra area
        fields = vint(file) + vint(flags) + (vint(len(extra)) if extra else b"")
        fields += vint(len(content)) + vint(has_crc) + vint(len(content)) + vint(mode)
        fields += struct.pack("<L", zlib.crc32(content)) + vint(method) + vint(unix)
        fields += vint(len(name)) + name.encode() + extra
        blocks.append(rar5_block(fields, content))
    blocks.append(rar5_block(vint(5) + vint(0) + vint(0)))
    path.write_bytes(b"".join(blocks))
    return path


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


ARCHIVES = {
    "x.zip": zip_of,
    "x.tar": tar_of,
    "x.tar.gz": lambda path, files: tar_of(path, files, "w:gz"),
    "x.TGZ": lambda path, files: tar_of(path, files, "w:gz"),
    "x.tar.bz2": lambda path, files: tar_of(path, files, "w:bz2"),
    "x.tar.xz": lambda path, files: tar_of(path, files, "w:xz"),
    "x.rar": rar_of,
    "x5.rar": rar5_of,
}
