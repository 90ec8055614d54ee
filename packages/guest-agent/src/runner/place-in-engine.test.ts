import { describe, expect, it } from 'vitest';
import { placeInEngine } from './place-in-engine.ts';

const folders = {
  root: '/m',
  workDir: '/m/dstack',
  dataDir: '/m/dstack/persistent',
  runDir: '/r',
  sockets: { dstack: '/r/dstack.sock', tappd: '/r/tappd.sock' },
};

describe('a path of the machine, in the engine of its host', () => {
  it.each([
    ['/', '/m/'],
    ['/data', '/m/data'],
    ['/data/../etc/shadow', '/m/etc/shadow'],
    ['/../../x', '/m/x'],
    ['/dstack/files', '/m/dstack/files'],
    ['/run/app', '/r/app'],
    ['/var/run/dstack', '/r/dstack'],
    ['~', '/m/root'],
    ['~/x', '/m/root/x'],
    ['~user/x', '/m/dstack/~user/x'],
    ['../x', '/m/x'],
    ['../../../../etc/shadow', '/m/etc/shadow'],
    ['./a/../../x', '/m/x'],
    ['/proc/../etc/shadow', '/m/etc/shadow'],
    ['/etc/ssl/../shadow', '/m/etc/shadow'],
    ['/etc/hosts', '/m/etc/hosts'],
    ['/dev/./shm/', '/dev/shm'],
    ['/var/run/dstack.sock', '/r/dstack.sock'],
    ['/run/tappd.sock', '/r/tappd.sock'],
  ])('%s is %s', (path, place) => expect(placeInEngine(path, folders)).toBe(place));
  it.each([
    ...[
      '.',
      './data',
      'file',
      'a/../b',
      './..data',
      '/proc',
      '/sys/fs/cgroup',
      '/dev/null',
      '/etc/localtime',
    ],
    ...['/var/run/docker.sock', '/etc/ssl/certs', '/lib/modules/x'],
  ])('%s stays', (path) => expect(placeInEngine(path, folders)).toBeUndefined());
});
