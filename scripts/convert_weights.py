"""Convert a checkpoint (safetensors, `.bin`, KerasHub's h5) to a safetensors preset, or back.

python scripts/convert_weights.py [--to kerashub] [--revision REVISION] [--token TOKEN] SRC DST
"""

import sys

from hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
