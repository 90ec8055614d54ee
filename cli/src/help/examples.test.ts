import type { Command } from 'commander';
import { expect, it } from 'vitest';
import { createContext } from '../context.ts';
import { splitGlobalOptions } from '../global-options.ts';
import { createProgram } from '../program.ts';
import { Sandbox } from '../testing.ts';
import { EXAMPLES } from './examples.ts';

const box = new Sandbox();
box.remove();
const context = createContext(box.host(), splitGlobalOptions([], {}).options);
const program = createProgram(context, () => undefined);

/** Each command that does something, by the words that it is called with; calls of the contracts have a help of their own. */
function commandsOf(command: Command, words: string): [string, Command][] {
  if (command.commands.length === 0) return [[words, command]];
  return command.commands.flatMap((one) => commandsOf(one, `${words} ${one.name()}`.trim()));
}

function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  return text;
}

const commands = commandsOf(program, '').filter(
  ([, command]) => command.options.length > 0 || !command.usage().includes('[WORDS...]'),
);

it('each help has examples', () => {
  expect(commands.length).toBeGreaterThan(50);
  const bare = commands.filter(([, command]) => !helpOf(command).includes('Examples:\n  '));
  expect(bare.map(([words]) => words)).toEqual([]);
});

it('examples call what there is: the command, with options that its help has', () => {
  for (const [words, lines] of Object.entries(EXAMPLES)) {
    const found = commands.find(([name]) => name === words);
    expect(found, words).toBeDefined();
    const help = helpOf(found![1]);
    for (const line of lines) {
      expect(line === words || line.startsWith(`${words} `), line).toBe(true);
      for (const [option] of line.matchAll(/(?<= )--?[a-zA-Z-]+/g)) expect(help, line).toContain(option);
    }
  }
});
