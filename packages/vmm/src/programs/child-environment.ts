/** What the guest's programs get of our environment: nothing that could hold a secret of the host. */
export function childEnvironment(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'DSTACK_BIN_DIR', 'DOCKER_HOST', 'NO_COLOR', 'LOG_LEVEL'];
  return Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}
