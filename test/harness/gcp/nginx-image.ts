/** A container image of Debian's nginx, made without a registry: the package of its mirror, and this host's libraries. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { containerArchive } from '../busybox-image.ts';

const DOWNLOAD_MS = 120_000;
const LOADER = '/lib64/ld-linux-x86-64.so.2';

/** Everything that it would write goes to the console or to memory; pages lie where the official image has them. */
const CONFIGURATION = `user root;
error_log /dev/stderr;
pid /tmp/nginx.pid;
events {}
http {
  access_log /dev/stdout;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  server {
    listen 80;
    root /usr/share/nginx/html;
  }
}
`;

/** The image as an archive for `docker load`, or why there is none. */
export async function nginxImage(name: string): Promise<{ archive: Uint8Array } | { missing: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-'));
  try {
    const options = { cwd: folder, timeout: DOWNLOAD_MS, stdio: 'pipe' } as const;
    try {
      execFileSync('apt-get', ['download', '-q', 'nginx'], options);
    } catch (error) {
      return { missing: `nginx cannot be downloaded: ${(error as Error).message.slice(0, 200)}` };
    }
    const [file = ''] = readdirSync(folder);
    execFileSync('dpkg-deb', ['-x', file, 'root'], options);
    const program = join(folder, 'root/usr/sbin/nginx');
    const libraries = execFileSync('ldd', [program], { encoding: 'utf8' });
    const copies: Record<string, string> = { 'usr/sbin/nginx': program, [LOADER.slice(1)]: LOADER };
    for (const [, path = ''] of libraries.matchAll(/=> (\/\S+)/g)) copies[path.slice(1)] = path;
    const { archive } = await containerArchive(name, {
      files: {
        ...{ 'etc/passwd': 'root:x:0:0::/:/bin/sh\n', 'etc/group': 'root:x:0:\n' },
        ...{ 'var/log/nginx/.keep': '', 'nginx.conf': CONFIGURATION },
      },
      copies,
      config: { Cmd: ['/usr/sbin/nginx', '-c', '/nginx.conf', '-g', 'daemon off;'], Env: ['PATH=/bin'] },
    });
    return { archive };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
