#!/usr/bin/env bash
# One Ray head on this machine: token auth, loopback, no usage statistics.
#
#   clusters/local.sh start      start a head with this checkout's environment (does nothing if it runs already)
#   clusters/local.sh stop       end the head that `start` started, and nothing else
#   clusters/local.sh status     say whether it runs
#   eval "$(clusters/local.sh env)"    let this shell's `ray job submit` reach it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
state=${BEHAVEGPT_RAY_STATE:-$root/.ray} # token, pid and log of the head; another folder and ports make another head
bin=$root/.venv/bin
port=${BEHAVEGPT_RAY_PORT:-6379}
agent_port=${BEHAVEGPT_AGENT_PORT:-52365}
cpus=${BEHAVEGPT_RAY_CPUS:-$(($(nproc) + ($(nproc) + 1) / 2))} # one logical CPU more for every two is for reading
dashboard_port=${BEHAVEGPT_DASHBOARD_PORT:-8265}
address=http://127.0.0.1:$dashboard_port

settings() {
  printf 'export PATH=%q:$PATH\n' "$bin"
  printf 'export %s\n' RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 \
    RAY_API_SERVER_ADDRESS="$address" RAY_ADDRESS="127.0.0.1:$port"
  printf 'export RAY_AUTH_TOKEN_PATH=%q\n' "$state/auth_token"
}

answers() { # the job API, with the token
  "$bin/python" - "$address/api/jobs/" "$state/auth_token" 2>/dev/null <<'EOF'
import pathlib, sys, urllib.request
header = {"Authorization": "Bearer " + pathlib.Path(sys.argv[2]).read_text()}
urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=header), timeout=5)
EOF
}

running() { # a process of ours has that pid, not one that got the number after a reboot
  [ -f "$state/head.pid" ] && { tr '\0' ' ' <"/proc/$(cat "$state/head.pid")/cmdline"; } 2>/dev/null | grep -q "start --head.* --port $port "
}

clear_up() { # a head that was killed has left what it had started, which holds its ports
  [ -f "$state/head.pid" ] || return 0
  local process stat
  for process in /proc/[0-9]*; do
    stat=$(cat "$process/stat" 2>/dev/null) || continue
    set -- ${stat##*) } # state, parent, group, session: the head's own, as long as our token is in the environment
    if [ "$4" = "$(cat "$state/head.pid")" ] &&
      { tr '\0' '\n' <"$process/environ"; } 2>/dev/null | grep -qxF "RAY_AUTH_TOKEN_PATH=$state/auth_token"; then
      kill -KILL "${process#/proc/}" 2>/dev/null || true
    fi
  done
  rm -f "$state/head.pid"
}

start() {
  if running; then echo "Ray already runs here; dashboard $address"; return; fi
  clear_up
  umask 077
  mkdir -p "$state"
  [ -s "$state/auth_token" ] || "$bin/python" -c 'import secrets; print(secrets.token_hex(32), end="")' >"$state/auth_token"
  chmod 600 "$state/auth_token"
  umask 022
  eval "$(settings)"
  # The head's environment is that of every job and worker on it. A trunk's start costs controller polls and imports:
  # on one machine nothing is preempted, and polling often is cheap.
  export RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.2 RAY_TRAIN_ENABLE_PREEMPTION_WATCHER=0
  # `ray job stop` interrupts a job as Ctrl-C does, and gives it time to write its table.
  export RAY_JOB_STOP_SIGNAL=SIGINT RAY_JOB_STOP_WAIT_TIME_S=30
  # A folder of its own: Ray notes there which head a submitted job belongs to, and takes the newest. Sockets lie below
  # it, whose paths may have 107 characters, so it is not in $state.
  setsid nohup ray start --head --block --port "$port" --node-ip-address 127.0.0.1 --dashboard-host 127.0.0.1 \
    --temp-dir "/tmp/ray-$UID-$port" \
    --dashboard-port "$dashboard_port" --dashboard-agent-listen-port "$agent_port" --num-cpus "$cpus" --disable-usage-stats \
    >"$state/head.log" 2>&1 </dev/null &
  echo $! >"$state/head.pid"
  for _ in $(seq 120); do
    if answers; then echo "Ray started; dashboard $address (token in $state/auth_token)"; return; fi
    running || break
    sleep 0.5
  done
  echo "error: Ray did not start; the end of $state/head.log:" >&2
  tail -n 20 "$state/head.log" >&2
  stop >&2
  exit 1
}

stop() {
  if ! running; then clear_up; echo "Ray does not run here"; return; fi
  kill -TERM "$(cat "$state/head.pid")"
  for _ in $(seq 20); do running || break; sleep 0.5; done
  clear_up
  echo "Ray stopped"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  env) settings ;;
  status) if running && answers; then echo "Ray runs here; dashboard $address"; else echo "Ray does not run here"; exit 1; fi ;;
  *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
