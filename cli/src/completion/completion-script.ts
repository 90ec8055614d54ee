import type { Command } from 'commander';
import { GLOBAL_HELP } from '../global-options.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** A command as it is typed after the program's name, and what may follow it. */
interface Place {
  /** Such as ` kms audit`; empty for the program itself. */
  readonly path: string;
  readonly commands: readonly Word[];
  readonly options: readonly Word[];
}

interface Word {
  readonly text: string;
  readonly description: string;
}

/** A script that completes the commands and options of this version. */
export function completionScript(program: Command, shell: Shell): string {
  const places = placesOf(program, '');
  return shell === 'fish' ? fishScript(places) : bashScript(places, shell);
}

function placesOf(command: Command, path: string): Place[] {
  const commands = command.commands.map((one) => ({ text: one.name(), description: one.description() }));
  const options = command.options.flatMap(({ long, description }) =>
    typeof long === 'string' ? [{ text: long, description }] : [],
  );
  const below = command.commands.flatMap((one) => placesOf(one, `${path} ${one.name()}`));
  return [{ path, commands, options: [...options, ...globalOptions()] }, ...below];
}

function globalOptions(): Word[] {
  return [...GLOBAL_HELP.matchAll(/(--[a-z-]+)(?: [A-Z]+)? {2,}(.+)$/gm)].map(([, text, description]) => ({
    text: text as string,
    description: description as string,
  }));
}

/** zsh runs the script of bash by its own emulation of bash's completion. */
function bashScript(places: readonly Place[], shell: 'bash' | 'zsh'): string {
  const paths = places.flatMap(({ path }) => (path === '' ? [] : [`"${path}"`]));
  const cases = places.map(({ path, commands, options }) => {
    const words = (list: readonly Word[]): string => list.map(({ text }) => text).join(' ');
    return `    "${path}") commands="${words(commands)}" options="${words(options)}" ;;`;
  });
  const start = shell === 'zsh' ? '#compdef dstack-cloud\nautoload -U +X bashcompinit && bashcompinit\n' : '';
  return `${start}_dstack_cloud() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" path="" commands="" options="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in
      -C | --directory | --config) ((i++)); continue ;;
    esac
    case "$path \${COMP_WORDS[i]}" in
      ${paths.join(' | ')}) path="$path \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  case "$cur" in
    -*) COMPREPLY=($(compgen -W "$options" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$commands" -- "$cur")) ;;
  esac
}
complete -o default -F _dstack_cloud dstack-cloud
`;
}

function fishScript(places: readonly Place[]): string {
  const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const paths = places.flatMap(({ path }) => (path === '' ? [] : [quoted(path)]));
  const lines = places.flatMap(({ path, commands, options }) => {
    const at = `complete -c dstack-cloud -n "__dstack_cloud_at '${path}'"`;
    return [
      ...commands.map(({ text, description }) => `${at} -f -a ${text} -d ${quoted(description)}`),
      ...options.map(({ text, description }) => `${at} -l ${text.slice(2)} -d ${quoted(description)}`),
    ];
  });
  return `function __dstack_cloud_at
  set -l path ''
  for word in (commandline -opc)[2..-1]
    if contains -- "$path $word" ${paths.join(' ')}
      set path "$path $word"
    end
  end
  test "$path" = "$argv[1]"
end
${lines.join('\n')}
`;
}
