"""Starts sources of osbuild, one after the other, and has each fetch items.

    osbuild_host.py CACHE MODULE ITEMS.json [MODULE ITEMS.json]…
"""

import json
import os
import socket
import subprocess
import sys


def fetch(cache, module, items):
    """Has one source fetch what a file lists."""
    with open(items, encoding="utf-8") as file:
        arguments = {"items": json.load(file), "options": {}, "cache": cache, "output": None, "checksums": []}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    service = subprocess.Popen(
        [module, "--service-id", f"source/{os.path.basename(module)}", "--service-fd", str(theirs.fileno())],
        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    ours.send(json.dumps({"type": "method", "data": {"name": "download", "args": arguments}}).encode())
    answer = json.loads(ours.recv(1 << 20))
    ours.close()
    service.wait()
    reply = answer.get("data", {}).get("reply") or {}
    if answer.get("type") != "reply" or not reply.get("success"):
        sys.exit(f"error: {json.dumps(answer)}")


for module_and_items in zip(sys.argv[2::2], sys.argv[3::2]):
    fetch(sys.argv[1], *module_and_items)
