/** `npm run demo -- --vm`, whole: its applications in virtual machines of our image, and nothing left behind. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DEMO, type DemoJson, expectComplete } from '../harness/demo-json.ts';
import { processesIn, runCommand } from '../harness/run-command.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';

/** Five boots, and the services in them. */
const DEMO_MS = 1_800_000;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vm-demo-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', ...missingForVm()];
describeWithPrograms('demo with virtual machines', needed, () => {
  test('vm-demo: the story in virtual machines, with both refusals, and nothing left behind', {
    timeout: DEMO_MS + 600_000,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const { code, stdout, stderr } = await runCommand([...DEMO, '--vm'], {
      env: { TMPDIR: directory },
      timeoutMs: DEMO_MS,
    });
    expect(code, `${stderr}\n${stdout}`).toBe(0);
    const json = JSON.parse(stdout) as DemoJson;
    expectComplete(json);
    expect(json.steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['vm-host', 'os-image', 'acceleration', 'deploy', 'restore']),
    );
    expect(processesIn(directory)).toEqual([]);
    expect(readdirSync(directory).filter((name) => name.startsWith('dstack-'))).toEqual([]);
  });
});
