# Prints the fingerprints of the primary keys in a file of OpenPGP keys, one a
# line, in capitals. RFC 4880, 4.2 (packets), 6.2 (armour) and 12.2
# (fingerprints). Images have no gpg, and apt's gpgv does not print them. With
# --dearmour it writes the keys themselves, without armour, as gpgv wants them;
# with --armour it writes them in one block, as rpm wants them. It refuses what it
# does not understand: gpg, gpgv or rpm might find one key more in it.
import base64
import hashlib
import sys


BEGIN = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
END = b"-----END PGP PUBLIC KEY BLOCK-----"

# Public keys, subkeys, their signatures, user ids and attributes, trust and
# markers. Others may hold keys in turn, as compressed data (8) does.
OF_KEYS = {2, 6, 10, 12, 13, 14, 17}


def dearmour(data):
    """Decodes all blocks of a file. As gpg does, it takes no notice of white
    space after a line, and of text before, between and after blocks."""
    if data[:1] and data[0] & 0x80:
        return data
    out, block = b"", None
    for line in data.split(b"\n"):
        line = line.rstrip(b" \t\r")
        if b"\r" in line:
            raise ValueError("a carriage return within a line")
        if line == BEGIN and block is None:
            block = []
        elif line == END and block is not None:
            out += decode(block)
            block = None
        elif b"-----" in line:
            raise ValueError("a line of armour that is not understood: " + line[:80].decode("ascii", "replace"))
        elif block is not None:
            block.append(line)
    if block is not None:
        raise ValueError("a block without an end")
    return out


def decode(lines):
    # Headers, which need not be there, end with an empty line; the checksum
    # begins with = and is the last.
    if b"" in lines:
        lines = lines[lines.index(b"") + 1 :]
    lines = [line.strip(b" \t") for line in lines]
    lines = [line for line in lines if line]
    if lines and lines[-1].startswith(b"="):
        lines.pop()
    return base64.b64decode(b"".join(lines), validate=True)


def armour(data):
    """Writes one block with its checksum (RFC 4880, 6.1 and 6.2)."""
    crc = 0xB704CE
    for octet in data:
        crc ^= octet << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    text = base64.b64encode(data)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    checksum = b"=" + base64.b64encode((crc & 0xFFFFFF).to_bytes(3, "big"))
    return b"\n".join([BEGIN, b"", *lines, checksum, END, b""])


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


def fingerprints(data):
    found = []
    for tag, body in packets(data):
        if tag not in OF_KEYS:
            raise ValueError(f"a packet of type {tag}, which is no part of a public key")
        if tag != 6:
            continue
        if body[0] != 4:
            raise ValueError(f"a key of version {body[0]}, only 4 is known")
        found.append(hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper())
    if not found:
        raise ValueError("no public key")
    return found


def main():
    with open(sys.argv[-1], "rb") as file:
        data = dearmour(file.read())
    found = fingerprints(data)
    if sys.argv[1] == "--dearmour":
        sys.stdout.buffer.write(data)
    elif sys.argv[1] == "--armour":
        sys.stdout.buffer.write(armour(data))
    else:
        print("\n".join(found))


try:
    main()
except (ValueError, IndexError) as problem:
    sys.exit(f"{sys.argv[-1]}: {problem}")
