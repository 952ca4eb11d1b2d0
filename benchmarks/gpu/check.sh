#!/usr/bin/env bash
# Everything that needs a CUDA device, on a machine that has one and has PyTorch: bash benchmarks/gpu/check.sh
# Takes under 8 minutes, prints one table at the end, exits 1 if a row failed.
# PYTHON names the interpreter (default: python3); perfdoctor itself need not be installed,
# only what it depends on.
set -u
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
for module in click matplotlib msgspec numpy pandas PIL psutil pynvml rich torch; do
  "$python" -c "import $module" 2>/dev/null || missing="${missing:-} $module"
done
if [ -n "${missing:-}" ]; then
  echo "missing Python modules:$missing (install perfdoctor's dependencies first)" >&2
  exit 2
fi
exec "$python" "$here/check.py" "$@"
