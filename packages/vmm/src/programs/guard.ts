import { type ChildProcess, spawn } from 'node:child_process';

/** Longer than a runner takes to end its services or containers. */
const GRACE_SECONDS = 14;

/**
 * Reads "add TARGET" and "del TARGET" lines (a process id, or minus a group id) until its input ends, which
 * happens when the process that holds the other end dies in whatever way. Then it ends every target, and every process
 * that has the line $1 in its environment: asks, waits until they are gone, kills.
 */
const SCRIPT = `
trap '' TERM INT HUP
targets=' '
while read -r verb target; do
  case $verb in
    add) targets="$targets$target " ;;
    del) targets=$(printf '%s' "$targets" | sed "s/ $target / /") ;;
  esac
done
marked() {
  [ -n "$1" ] || return 0
  for file in $(grep -lzxF -- "$1" /proc/[0-9]*/environ 2>/dev/null); do
    file=\${file#/proc/}
    printf '%s ' "\${file%/environ}"
  done
}
# Also until the next look, what is asked now may start others.
all="$targets$(marked "$1")"
for target in $all; do kill -s TERM -- "$target" 2>/dev/null; done
tries=$(($2 * 5))
while [ "$tries" -gt 0 ]; do
  alive=
  for target in $all; do kill -s 0 -- "$target" 2>/dev/null && alive=1; done
  [ -n "$alive" ] || break
  sleep 0.2
  tries=$((tries - 1))
done
for target in $targets $(marked "$1"); do kill -s KILL -- "$target" 2>/dev/null; done
exit 0
`;

/**
 * Ends processes when this one is gone, even when this one was killed: node has no parent-death signal.
 * The guard is one small shell in a session of its own.
 */
export class Guard {
  readonly #shell: ChildProcess;

  /** @param mark a line `NAME=value` of the environment of processes that end too; empty for none */
  constructor(mark = '') {
    const { [mark.split('=')[0] ?? '']: _own, ...env } = process.env;
    this.#shell = spawn('/bin/sh', ['-c', SCRIPT, 'guard', mark, String(GRACE_SECONDS)], {
      stdio: ['pipe', 'ignore', 'ignore'],
      env,
      detached: true,
    });
    this.#shell.stdin?.on('error', () => undefined);
    this.#shell.on('error', () => undefined);
    this.#shell.unref();
    (this.#shell.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }

  /** Ends this process when we are gone. */
  watchProcess(pid: number): void {
    this.#shell.stdin?.write(`add ${pid}\n`);
  }

  /** Ends this whole process group when we are gone. */
  watchGroup(pid: number): void {
    this.#shell.stdin?.write(`add -${pid}\n`);
  }

  /** The process (or group) ended by itself: its number may soon be somebody else's. */
  forget(pid: number): void {
    this.#shell.stdin?.write(`del ${pid}\ndel -${pid}\n`);
  }

  /** Ends the guard without touching anybody. */
  async release(): Promise<void> {
    if (this.#shell.exitCode !== null || this.#shell.signalCode !== null || this.#shell.pid === undefined)
      return;
    const ended = new Promise<void>((resolve) => this.#shell.once('exit', () => resolve()));
    // Until now it kept nobody alive; waiting for it must.
    this.#shell.ref();
    this.#shell.kill('SIGKILL');
    await ended;
  }
}
