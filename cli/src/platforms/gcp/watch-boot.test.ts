import { expect, it } from 'vitest';
import { failureOf } from './watch-boot.ts';

const line = (error: string, msg: string): string =>
  `[   94.1] node[181]: ${JSON.stringify({ level: 50, name: 'dstack-guest', error, msg })}\r\n`;

it('reads from a console why a machine of ours does not get ready', () => {
  const denied = 'Boot denied: Compose hash not allowed: "0x12"';
  expect(failureOf(`booting\n${line(denied, 'The machine cannot be prepared; it reboots')}more`)).toBe(
    denied,
  );
  expect(failureOf(line('no image', 'The application does not start'))).toBe('no image');
  expect(failureOf('Boot denied: by an older guest\n')).toBe('Boot denied: by an older guest');
});

it('takes an error that the guest lives with for none', () => {
  expect(failureOf(line('No vsock connection', 'Host was not notified'))).toBeUndefined();
  expect(failureOf('dstack-init: booting\n')).toBeUndefined();
});
