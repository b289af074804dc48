# SPDX-License-Identifier: Apache-2.0
"""Numbered datagrams at a steady rate, and who counts them. Programs of their own: they must not wait for a test.

    numbered.py send SOURCE PORT TO PORT RATE SECONDS
    numbered.py receive ADDRESS PORT        prints what it has seen as JSON when the sender says that it is done

Every hundredth datagram is answered, so that the connection is one that goes both ways.
"""

import json
import socket
import struct
import sys
import time

SO_RCVBUFFORCE = 33
END = 0xFFFFFFFF


def send(source, source_port, to, to_port, rate, seconds):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    made.bind((source, int(source_port)))
    made.connect((to, int(to_port)))
    total, rate = int(float(rate) * float(seconds)), float(rate)
    began, number = time.monotonic(), 0
    pack = struct.Struct("!I28x").pack
    while number < total:
        # What is due by now; a sender that was held up catches up in portions that no queue minds.
        due = min(total, int((time.monotonic() - began) * rate) + 1, number + 200)
        while number < due:
            made.send(pack(number))
            number += 1
        time.sleep(0.001)
    made.settimeout(0.2)
    for _ in range(50):  # until it is heard
        made.send(pack(END))
        try:
            while struct.unpack("!I", made.recv(100)[:4])[0] != END:
                pass
            return
        except TimeoutError:
            continue


def receive(address, port):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    made.bind((address, int(port)))
    print("ready", flush=True)
    seen, doubled, disordered, last = bytearray(), 0, 0, -1
    while True:
        data, peer = made.recvfrom(100)
        number = struct.unpack("!I", data[:4])[0]
        if number == END:
            made.sendto(data, peer)
            break
        if number >= len(seen):
            seen.extend(bytes(number + 1000 - len(seen)))
        doubled += seen[number]
        seen[number] = 1
        disordered += number < last
        last = max(last, number)
        if number % 100 == 0:
            made.sendto(data, peer)
    missing = [number for number in range(last + 1) if not seen[number]]
    print(json.dumps({"last": last, "received": sum(seen), "doubled": doubled, "disordered": disordered,
                      "missing": len(missing), "first_missing": missing[:20], "peer": peer[0]}), flush=True)


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](*sys.argv[2:])
