#!/usr/bin/env bash
# Train on two machines. On each of them, with --out and --data on a disk that both share:
#   HOST=first-machine PROCESSES=8 bash examples/two_nodes.sh direct --data data --out /shared/run --steps 100000
# To try it on one machine, as two nodes with a process each:
#   HOST=127.0.0.1 LOCAL=1 bash examples/two_nodes.sh direct --profile tiny --data data --out runs/two --steps 100
# As a Slurm job of two nodes, which a preemption or the end of its time puts back into the queue:
#   sbatch --nodes 2 --ntasks-per-node 1 --requeue --signal=TERM@120 --wrap "HOST=... srun bash examples/two_nodes.sh ..."
# The same command resumes after any end; torchrun restarts all processes itself where one is lost.
set -euo pipefail

: "${HOST:?name of the first machine, which all machines reach}"
options=(--nnodes 2 --nproc-per-node "${PROCESSES:-1}" --max-restarts "${RESTARTS:-3}" --rdzv-backend c10d
  --rdzv-endpoint "$HOST:${PORT:-29500}" --rdzv-id "${JOB:-framecast}")

# Seconds between SIGTERM and the end by force: a step in progress and a checkpoint must fit.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-90}"

if [ "${LOCAL:-0}" != 1 ]; then
  exec "${TORCHRUN:-torchrun}" "${options[@]}" -m framecast train "$@"
fi

if [ "$(uname)" = Linux ]; then export GLOO_SOCKET_IFNAME=lo; fi # the machine's own address may be closed to others
nodes=()
for _ in first second; do
  "${TORCHRUN:-torchrun}" "${options[@]}" --local-addr 127.0.0.1 -m framecast train "$@" &
  nodes+=($!)
done
trap 'kill -TERM "${nodes[@]}" 2>/dev/null || true' TERM INT
code=0
for node in "${nodes[@]}"; do
  wait "$node" || code=$?
done
exit "$code"
