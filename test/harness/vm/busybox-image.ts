/** A container image of one static program, made by hand: no registry, no engine. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '@dstack-cloud/test/requires';

const PROGRAMS = [
  'sh',
  'cat',
  'echo',
  'ls',
  'nc',
  'sleep',
  'wget',
  'httpd',
  'mkdir',
  'date',
  'touch',
  'sync',
];

/**
 * Writes `<folder>/images.tar`, a disk of image archives with the image `busybox:local`.
 *
 * @returns its path
 */
export function busyboxImagesDisk(folder: string): string {
  const work = join(folder, 'busybox-image');
  const [root, image, disk] = ['root', 'image', 'disk'].map((name) => join(work, name)) as [
    string,
    string,
    string,
  ];
  for (const path of ['bin', 'tmp', 'data', 'www', 'var/run'])
    mkdirSync(join(root, path), { recursive: true });
  for (const path of [image, disk]) mkdirSync(path, { recursive: true });
  copyFileSync(findProgram('busybox') ?? '/bin/busybox', join(root, 'bin/busybox'));
  for (const name of PROGRAMS) symlinkSync('busybox', join(root, 'bin', name));
  execFileSync('tar', ['-C', root, '--owner=0', '--group=0', '-cf', join(image, 'layer.tar'), '.']);
  const layer = createHash('sha256')
    .update(readFileSync(join(image, 'layer.tar')))
    .digest('hex');
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${layer}`] },
  });
  writeFileSync(join(image, 'config.json'), config);
  const manifest = [{ Config: 'config.json', RepoTags: ['busybox:local'], Layers: ['layer.tar'] }];
  writeFileSync(join(image, 'manifest.json'), JSON.stringify(manifest));
  const files = ['manifest.json', 'config.json', 'layer.tar'];
  execFileSync('tar', ['-C', image, '--owner=0', '--group=0', '-cf', join(disk, 'busybox.tar'), ...files]);
  const path = join(folder, 'images.tar');
  execFileSync('tar', ['-C', disk, '--owner=0', '--group=0', '-cf', path, 'busybox.tar']);
  rmSync(work, { recursive: true, force: true });
  return path;
}
