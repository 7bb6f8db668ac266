# Prints the fingerprints of the primary keys in a file of OpenPGP keys, one a
# line, in capitals. RFC 4880, 4.2 (packets) and 12.2 (fingerprints). Images
# have no gpg, and apt's gpgv does not print them. With --dearmour it writes the
# keys themselves, without armour, as gpgv wants them.
import base64
import hashlib
import re
import sys


def dearmour(data):
    if data[:1] and data[0] & 0x80:
        return data
    out = b""
    for body in re.findall(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)\r?\n-----END", data, re.S):
        # Headers end with an empty line; the checksum begins with =.
        text = re.split(rb"\r?\n[ \t]*\r?\n", b"\n" + body, maxsplit=1)[-1]
        text = re.split(rb"\r?\n=", text, maxsplit=1)[0]
        out += base64.b64decode(re.sub(rb"\s", b"", text), validate=True)
    return out


def packets(data):
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise ValueError("not an OpenPGP packet")
        at += 1
        if head & 0x40:
            tag, first = head & 0x3F, data[at]
            at += 1
            if first < 192:
                size = first
            elif first < 224:
                size, at = ((first - 192) << 8) + data[at] + 192, at + 1
            elif first == 255:
                size, at = int.from_bytes(data[at : at + 4], "big"), at + 4
            else:
                raise ValueError("a key in parts")
        else:
            tag, width = head >> 2 & 0xF, 1 << (head & 3)
            if width == 8:
                raise ValueError("a packet without a length")
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        body = data[at : at + size]
        if len(body) != size:
            raise ValueError("the file is cut off")
        yield tag, body
        at += size


def main():
    with open(sys.argv[-1], "rb") as file:
        data = dearmour(file.read())
    if sys.argv[1] == "--dearmour":
        sys.stdout.buffer.write(data)
        return
    found = False
    for tag, body in packets(data):
        if tag != 6:
            continue
        if body[0] != 4:
            raise ValueError(f"a key of version {body[0]}, only 4 is known")
        print(hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper())
        found = True
    if not found:
        raise ValueError("no public key")


try:
    main()
except (ValueError, IndexError) as problem:
    sys.exit(f"{sys.argv[-1]}: {problem}")
