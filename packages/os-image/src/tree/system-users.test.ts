import { expect, it } from 'vitest';
import { SystemUsers } from './system-users.ts';

const passwd = 'root:*:0:0:root:/root:/bin/bash\nman:*:6:12:man:/var/cache/man:/usr/sbin/nologin\n';
const group = 'root:*:0:\nman:*:12:\nadm:*:4:\n';

it('adds what the packages ask for, with the same numbers every time', () => {
  const users = new SystemUsers(passwd, group);
  users.add(
    '# comment\ng docker -\nu! systemd-network - "Network"\nu fixed 400 "Fixed one" /var/fixed /bin/sh\nm man adm\nr - 500-900\n',
  );
  const files = users.files();
  expect(files.passwd.split('\n')).toContain('systemd-network:x:998:998:Network:/:/usr/sbin/nologin');
  expect(files.passwd.split('\n')).toContain('fixed:x:400:400:Fixed one:/var/fixed:/bin/sh');
  expect(files.group.split('\n')).toEqual(
    expect.arrayContaining(['docker:x:999:', 'adm:x:4:man', 'systemd-network:x:998:']),
  );
});

it('gives nobody a password', () => {
  const users = new SystemUsers(passwd, group);
  users.add('u! someone - "x"');
  const { shadow, passwd: lines } = users.files();
  expect(
    shadow
      .trim()
      .split('\n')
      .every((line) => line.split(':')[1] === '!*'),
  ).toBe(true);
  expect(
    lines
      .trim()
      .split('\n')
      .every((line) => line.split(':')[1] === 'x'),
  ).toBe(true);
});

it('refuses lines that it does not know', () => {
  const users = new SystemUsers(passwd, group);
  expect(() => users.add('x what')).toThrow(/type x/);
  expect(() => users.add('u name 12:nowhere')).toThrow(/nowhere/);
});
