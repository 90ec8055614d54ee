/**
 * Arguments of a software TPM. swtpm(8) has no way to quote a comma, which begins its next option.
 *
 * @param state folder of its state, relative to the machine's folder, where it runs: that path may have commas
 * @param socket in a run folder, whose path has none
 */
export function swtpmArguments(state: string, socket: string): string[] {
  const control = `type=unixio,path=${socket},mode=0600`;
  return ['socket', '--tpm2', '--tpmstate', `dir=${state},mode=0600`, '--ctrl', control];
}
