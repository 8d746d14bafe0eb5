#!/usr/bin/env bash
# Installs what is missing, builds comet, fetches and quantises the default model, and serves it on
# 127.0.0.1:8000 (HTTP) and :50051 (gRPC). Every step is skipped when its result is there.
#   scripts/serve.sh                        the default model
#   scripts/serve.sh --model DIR            another checkpoint (or, unquantised, a Hugging Face folder or GGUF file)
#   scripts/serve.sh --config FILE          what the file says, its model too unless --model is there
#   scripts/serve.sh --cpu                  on a host with a GPU but no nvcc
# Other arguments go to `comet serve` (see `comet serve --help`).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

model=
has_config=false
port=8000
knows_address=true  # Where the daemon will listen, to wait for it.
build_options=()
serve_options=()
while [ $# -gt 0 ]; do
  case "$1" in
    --model) model=${2:?"--model needs a folder"}; shift 2 ;;
    --model=*) model=${1#*=}; shift ;;
    --config | --config=*) has_config=true; knows_address=false; serve_options+=("$1"); shift ;;
    --host | --host=*) knows_address=false; serve_options+=("$1"); shift ;;
    --cpu) build_options+=(--cpu); shift ;;
    --port) port=${2:?"--port needs a number"}; serve_options+=(--port "$2"); shift 2 ;;
    --port=*) port=${1#*=}; serve_options+=("$1"); shift ;;
    *) serve_options+=("$1"); shift ;;
  esac
done
[ "$port" != 0 ] || knows_address=false
caller=$PWD  # Paths among the options are the caller's.
cd "$root"

scripts/install_deps.sh build
scripts/build.sh "${build_options[@]}" release comet
comet=$root/build/release/bin/comet

if [ -z "$model" ] && [ "$has_config" = false ]; then
  model=$root/models/SmolLM2-135M-Instruct-comet
  if [ ! -d "$model" ]; then
    source=$(scripts/fetch_model.sh)
    echo "serve: quantising $source to 4 bits"
    "$comet" quantize "$source" --output "$model"
  fi
fi

[ -z "$model" ] || serve_options+=(--model "$model")

# Another daemon's answer would be taken for this one's below.
if [ "$knows_address" = true ] && curl -s -o /dev/null --max-time 2 "http://127.0.0.1:$port/ready"; then
  echo "serve: port $port of 127.0.0.1 is taken: choose another with --port" >&2
  exit 1
fi
cd "$caller"
"$comet" serve "${serve_options[@]}" &
server=$!
# Ctrl-C reaches the daemon by itself: a second signal would cut its drain short.
trap : INT
trap 'kill -TERM "$server" 2>/dev/null || true' TERM
if [ "$knows_address" = true ]; then
  until curl -fsS -o /dev/null "http://127.0.0.1:$port/ready" 2>/dev/null; do
    kill -0 "$server" 2>/dev/null || { wait "$server"; exit $?; }
    sleep 0.2
  done
  kill -0 "$server" 2>/dev/null || { wait "$server"; exit $?; }
  cat <<EOF

comet is ready. Try:

  curl -N http://127.0.0.1:$port/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": true, "temperature": 0}'

EOF
fi
# The first wait ends when a signal arrives; the second returns the exit code after the drain.
status=0
wait "$server" || status=$?
while kill -0 "$server" 2>/dev/null; do status=0; wait "$server" || status=$?; done
exit "$status"
