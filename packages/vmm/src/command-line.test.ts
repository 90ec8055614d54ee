import { describe, expect, it } from 'vitest';
import { parseCommandLine, USAGE, UsageError } from './command-line.ts';

describe('the command line of dstack-vmm', () => {
  it.each<[string[], object]>([
    [[], { command: 'serve', config: undefined }],
    [['-c', 'x.toml'], { command: 'serve', config: 'x.toml' }],
    [['serve', '--config', 'x.toml'], { command: 'serve', config: 'x.toml' }],
    [
      ['-c', 'x.toml', 'run', 'VM.json', '--workdir', 'd', '--dry-run'],
      { command: 'run', argument: 'VM.json', workDir: 'd', dryRun: true },
    ],
    [['check-config', '--print-config'], { command: 'check-config', printConfig: true }],
    [['stop', 'd', '--force'], { command: 'stop', argument: 'd', force: true }],
    [['logs', 'd', '-n', '0', '--container', 'web'], { command: 'logs', lines: 0, container: 'web' }],
    [['supervise', 'd', '--when-told'], { command: 'supervise', whenTold: true }],
    [['nonsense', '--help'], { command: 'help' }],
    [['-V'], { command: 'version' }],
  ])('%j', (args, wanted) => expect(parseCommandLine(args)).toMatchObject(wanted));

  it.each<[string[], RegExp]>([
    [['statsu', 'd'], /^There is no command "statsu"; did you mean status\?$/],
    [['constructor'], /^There is no command "constructor"$/],
    [['status'], /^status needs the folder of a machine$/],
    [['run'], /^run needs the file of a VM configuration$/],
    [['logs', ''], /^logs needs the folder/],
    [['serve', 'vmm.toml'], /^serve takes no "vmm\.toml"$/],
    [['status', 'd', 'e'], /^status takes no "e"$/],
    [['start', 'd', '--force'], /^start has no option --force$/],
    [['list', 'd', '-c', 'x'], /^list has no option --config$/],
    [['--bogus'], /^Unknown option '--bogus'$/],
    [['-c'], /--config <value>' argument missing/],
    [['--dry-run=yes', 'run', 'x'], /does not take an argument/],
    ...['x', '-1', '1.5', '1e3', '', '9999999'].map((lines): [string[], RegExp] => [
      ['logs', 'd', `--lines=${lines}`],
      /^--lines takes a number from 0 to 999999/,
    ]),
  ])('%j is wrong usage', (args, message) => {
    expect(() => parseCommandLine(args)).toThrow(UsageError);
    expect(() => parseCommandLine(args)).toThrow(message);
  });

  it('is explained, each command and option of it', () => {
    for (const word of [
      'serve',
      'check-config',
      'run',
      'list',
      'status',
      'start|stop|remove',
      'logs',
      'supervise',
    ])
      expect(USAGE).toContain(word);
    for (const option of [
      '--config',
      '--print-config',
      '--workdir',
      '--dry-run',
      '--force',
      '--lines',
      '--container',
    ])
      expect(USAGE).toContain(option);
    for (const line of USAGE.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  });
});
