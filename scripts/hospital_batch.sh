#!/usr/bin/env bash
# Segment every case of a folder that is not done yet; to be run every night by systemd or cron (docs/how-to/hospital-batch.md).
#
#     hospital_batch.sh BUNDLE INPUT OUTPUT [further options of segloss predict]
#
# Exit codes: 0 success; 1 some cases failed or are held, see OUTPUT/manifest.csv; 2 wrong request, or OUTPUT is in use by
# another program; 75 the previous run is still in progress; 143 stopped by SIGTERM before all cases were started. Each run
# writes its own log to OUTPUT/logs.
#
# Environment: SEGLOSS (the command, "segloss"), KEEP_LOGS (number of logs to keep, 30), NICE (priority, 10).
set -euo pipefail

if [ "$#" -lt 3 ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
bundle=$1 input=$2 output=$3
shift 3
segloss=${SEGLOSS:-segloss} keep_logs=${KEEP_LOGS:-30}
case $keep_logs in
'' | *[!0-9]* | 0*) echo "error: KEEP_LOGS=$keep_logs must be a number of logs; give 1 or more" >&2 && exit 2 ;;
esac

umask 077 # results are patient data
logs=$output/logs
mkdir -p "$logs"

exec 9>"$logs/.lock"
if ! flock --nonblock 9; then
    echo "the previous run is still in progress; no new run was started" >&2
    exit 75
fi

log=$logs/$(date +%Y-%m-%dT%H-%M-%S).log
echo "started $(date --iso-8601=seconds)" >"$log"
# 9>&-: the batch must not inherit the lock, or a process that it leaves behind would block the next run.
nice -n "${NICE:-10}" "$segloss" predict "$bundle" "$input" --out "$output" "$@" >>"$log" 2>&1 9>&- &
batch=$!
# Forward a stop to the batch and wait again: a trapped signal ends `wait`, not the batch. Ctrl-C is forwarded as SIGTERM,
# since the shell makes programs in the background ignore SIGINT.
trap 'kill -TERM "$batch" 2>/dev/null || true' TERM INT
code=0
wait "$batch" || code=$?
while kill -0 "$batch" 2>/dev/null; do
    code=0
    wait "$batch" || code=$?
done
echo "finished $(date --iso-8601=seconds) with exit code $code" >>"$log"

# Keep the newest logs. Their names contain no spaces, since this script chooses them.
find "$logs" -maxdepth 1 -name '????-??-??T*.log' | sort -r | tail -n "+$((keep_logs + 1))" | xargs -r rm --

tail -n 4 "$log"
exit "$code"
