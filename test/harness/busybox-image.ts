/** A container image of this machine's static busybox, made without an engine. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { imageStream } from '@dstack-cloud/app/image-archive';
import { utf8 } from '@dstack-cloud/encoding';
import { writeImagesDisk } from '@dstack-cloud/os-image';
import { findProgram } from '@dstack-cloud/test/requires';

const FOLDERS = ['bin', 'tmp', 'data', 'www', 'var/run'];
const APPLETS = [
  'sh',
  'cat',
  'cp',
  'date',
  'echo',
  'httpd',
  'ls',
  'mkdir',
  'nc',
  'sleep',
  'sync',
  'touch',
  'wget',
];

export interface BusyboxImage {
  /** OCI image layout in a tar archive. */
  readonly archive: Uint8Array;
  /** Digest of the manifest, `sha256:…`. */
  readonly digest: string;
  /** Digest of the configuration, `sha256:…`. */
  readonly id: string;
}

/**
 * @param name full name with tag
 * @param text content of `/text`, so that images differ
 */
export async function busyboxImage(name: string, text: string): Promise<BusyboxImage> {
  return await containerArchive(name, { files: { text } });
}

/**
 * The same with other files and another configuration.
 *
 * @param content.files texts by their path without a leading slash
 */
export async function containerArchive(
  name: string,
  content: {
    readonly files: Readonly<Record<string, string>>;
    /** Files and folders of this machine by their path in the image. */
    readonly copies?: Readonly<Record<string, string>>;
    readonly config?: object;
  },
): Promise<BusyboxImage> {
  const layer = rootFiles(content.files, content.copies ?? {});
  const hex = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  const part = (bytes: Uint8Array) => ({
    hex: hex(bytes),
    size: bytes.length,
    content: {
      read: async (position: number, length: number) => bytes.subarray(position, position + length),
    },
  });
  const config = utf8(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      config: content.config ?? { Cmd: ['/bin/sh'], Env: ['PATH=/bin'] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${hex(layer)}`] },
    }),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const named = (type: string, bytes: Uint8Array) => ({
    mediaType: `application/vnd.oci.image.${type}`,
    digest: `sha256:${hex(bytes)}`,
    size: bytes.length,
  });
  const manifest = utf8(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: named('config.v1+json', config),
      layers: [named('layer.v1.tar', layer)],
    }),
  );
  const pieces: Uint8Array[] = [];
  const layout = { mediaType, manifest: part(manifest), config: part(config), layers: [part(layer)] };
  for await (const piece of imageStream(layout, [name])) pieces.push(piece);
  return {
    archive: new Uint8Array(Buffer.concat(pieces)),
    digest: `sha256:${hex(manifest)}`,
    id: `sha256:${hex(config)}`,
  };
}

/**
 * Writes `<folder>/images.tar`, the disk that gives a machine the image `busybox:local`.
 *
 * @returns its path
 */
export async function busyboxImagesDisk(folder: string): Promise<string> {
  const source = join(folder, 'busybox.tar');
  writeFileSync(source, (await busyboxImage('docker.io/library/busybox:local', 'local')).archive);
  const disk = join(folder, 'images.tar');
  await writeImagesDisk([source], disk);
  rmSync(source);
  return disk;
}

function rootFiles(
  files: Readonly<Record<string, string>>,
  copies: Readonly<Record<string, string>>,
): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), 'busybox-'));
  try {
    for (const path of FOLDERS) mkdirSync(join(directory, path), { recursive: true });
    copyFileSync(findProgram('busybox') ?? 'busybox', join(directory, 'bin/busybox'));
    for (const applet of APPLETS) symlinkSync('busybox', join(directory, 'bin', applet));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(directory, dirname(path)), { recursive: true });
      writeFileSync(join(directory, path), text);
    }
    for (const [path, source] of Object.entries(copies)) {
      mkdirSync(join(directory, dirname(path)), { recursive: true });
      cpSync(source, join(directory, path), { recursive: true, dereference: true });
    }
    const fixed = ['--sort=name', '--mtime=@0', '--numeric-owner', '--owner=0', '--group=0'];
    return execFileSync('tar', [...fixed, '-C', directory, '-c', ...readdirSync(directory)], {
      maxBuffer: 512 * 1024 * 1024,
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
