#!/bin/sh
# Slurm on this machine alone, for tests/test_batch_slurm.py: as root, in a plain Debian or Ubuntu container.
#
#   sh tests/slurm/one_node.sh start    installs Slurm if it is missing, and starts its daemons
#   sh tests/slurm/one_node.sh stop     ends them
set -eu

state=/var/spool/one-node-slurm
conf=/etc/slurm/slurm.conf
mark="# made by one_node.sh"

configure() {
    node=$(hostname -s)
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    # no cgroups and no systemd: a container has neither; a quick scheduler: a test waits for it
    cat >$conf <<END
$mark
ClusterName=one
SlurmctldHost=$node
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=5
MinJobAge=10
OverTimeLimit=0
ReturnToService=2
EnforcePartLimits=ALL
NodeName=$node CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=01:00:00 State=UP
END
}

start() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null || {
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurm-wlm munge
    }
    if [ -e $conf ] && ! grep -q "^$mark" $conf; then
        echo "$conf is of another Slurm; it is left alone" >&2
        exit 1
    fi
    mkdir -p $state/ctld $state/d /run/munge
    configure
    chown munge: /run/munge
    [ -e /run/munge/munge.socket.2 ] || su -s /bin/sh munge -c /usr/sbin/munged
    slurmctld
    slurmd
    for _ in $(seq 30); do
        sinfo -h -o %T 2>/dev/null | grep -q idle && sinfo && exit 0
        sleep 1
    done
    tail -n 5 $state/*.log >&2
    exit 1
}

stop() {
    for file in $state/slurmd.pid $state/slurmctld.pid /run/munge/munged.pid; do
        if [ -e $file ]; then kill "$(cat $file)" || true; fi
    done
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
