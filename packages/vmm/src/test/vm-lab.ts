import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { encodeTdxDocument } from '@dstack-cloud/attestation';
import type { CreateOptions } from '../change/create-options.ts';
import { type MachineLab, machineLab } from './machine-lab.ts';

/**
 * Behaves as QEMU does towards the supervisor, and its guest towards the host. How, says app-compose.json. It writes its
 * arguments to `argv.json` and its number to `qemu.pid` in the machine's folder.
 */
const QEMU = `#!${process.execPath}
const net=require('node:net'),fs=require('node:fs'),http=require('node:http'),path=require('node:path');
const argv=process.argv.slice(2);
if(argv[0]==='--version'){ console.log('QEMU emulator version 7.2.22 (fake)'); process.exit(0); }
fs.writeFileSync('argv.json',JSON.stringify(argv)); fs.writeFileSync('qemu.pid',String(process.pid));
const mode=fs.readFileSync('shared/app-compose.json','utf8');
const qmp=argv[argv.indexOf('-qmp')+1].slice(5).split(',')[0];
const dir=path.dirname(qmp);
const note=(event,payload)=>new Promise(done=>{const r=http.request({socketPath:dir+'/vm.vsock_10000',path:'/api/Notify?json',method:'POST'},x=>{x.resume();x.on('end',done)});r.on('error',done);r.end(JSON.stringify({event,payload}))});
if(mode==='taken'){ console.error("Could not set up host forwarding rule 'tcp:127.0.0.1:1-:80'"); process.exit(1); }
let client;
const event=(name,data={})=>client&&client.write(JSON.stringify({event:name,data})+'\\r\\n');
const end=(reason,code=0)=>{ event('SHUTDOWN',{reason}); setTimeout(()=>process.exit(code),50); };
net.createServer(s=>{ client=s; s.on('error',()=>0); s.write('{"QMP":{}}\\r\\n');
 let rest=''; s.on('data',c=>{ rest+=c; const lines=rest.split('\\n'); rest=lines.pop();
  for(const line of lines){ const {execute,id}=JSON.parse(line); fs.appendFileSync('qmp.txt',execute+'\\n');
   s.write(JSON.stringify({return:{},id})+'\\r\\n');
   if(execute==='quit') end('host-qmp-quit'); if(execute==='system_powerdown'&&mode!=='stubborn') end('guest-shutdown'); } }); }).listen(qmp);
(async()=>{ console.log('kernel says hello'); await note('boot.progress','requesting app keys');
 if(mode==='denied') await note('boot.error','Boot denied: Compose hash not allowed');
 if(mode==='reboots'){ console.log('Kernel panic - not syncing'); await new Promise(r=>setTimeout(r,200)); end('guest-reset'); }
 if(mode==='flood') for(let i=0;i<3000;i++){ if(!process.stdout.write('x'.repeat(10000)+'\\n')) await new Promise(r=>process.stdout.once('drain',r)); }
 if(['ok','stubborn','flood','leaves','writes'].includes(mode)) await note('boot.progress','done');
 if(mode==='writes'){ const t=setInterval(()=>{ if(fs.existsSync('full')){ clearInterval(t); event('BLOCK_IO_ERROR',{nospace:true}); } },20); }
 if(mode==='leaves') setTimeout(()=>end('guest-shutdown'),300);
 setInterval(()=>0,1000); })();`;

const VSOCK = `#!${process.execPath}
const fs=require('node:fs'),net=require('node:net');
const text=process.argv[process.argv.indexOf('--vm')+1];
const socket=/socket=([^,]+)/.exec(text)[1];
net.createServer(s=>s.destroy()).listen(socket); setInterval(()=>0,1000);`;

/** A machine lab whose machine is a virtual one: QEMU and what carries its vsock are stand-ins, the supervisor is real. */
export interface VmLab extends MachineLab {
  readonly imageFolder: string;
}

export function vmLab(): VmLab {
  const lab = machineLab();
  const bin = join(lab.root, 'fake-bin');
  mkdirSync(bin);
  for (const [name, text] of [
    ['qemu-system-x86_64', QEMU],
    ['vhost-device-vsock', VSOCK],
  ] as const) {
    writeFileSync(join(bin, name), text);
    chmodSync(join(bin, name), 0o755);
  }
  const path = process.env['PATH'] ?? '';
  process.env['PATH'] = `${bin}${delimiter}${path}`;
  const imageFolder = join(lab.root, 'image');
  writeImage(imageFolder, true);
  const root = join(lab.root, 'root.pem');
  writeFileSync(root, 'root');
  const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
  const options: CreateOptions = {
    ...lab.options,
    shared: {
      'app-compose.json': utf8('ok'),
      '.sys-config.json': utf8('{"kms_urls":["https://127.0.0.1:9"],"vm_config":"{}"}'),
    },
    rootCaTdx: root,
    vm: { image_folder: imageFolder, disk_size: 1, acceleration: 'tcg', boot_timeout: 60 },
  };
  return {
    ...lab,
    options,
    imageFolder,
    withMode: (mode) => ({ ...options, shared: { ...options.shared, 'app-compose.json': utf8(mode) } }),
    cleanUp: async () => {
      process.env['PATH'] = path;
      await lab.cleanUp();
    },
  };
}

/** An image folder that is right by its own list; none of its files is what it says. */
export function writeImage(
  folder: string,
  isDev: boolean,
  mark: string = '',
  change: { readonly metadata?: object; readonly document?: Uint8Array } = {},
): void {
  mkdirSync(folder, { recursive: true });
  const document = encodeTdxDocument({
    commandLineSha384: new Uint8Array(48),
    kernelAuthenticode: new Uint8Array(48),
    initrdSha384: new Uint8Array(48),
    ovmfVariant: 'pre202505',
    mrtd: { singlePass: new Uint8Array(48), twoPass: new Uint8Array(48) },
    hob: { address: 0x80_9000, accepted: [] },
  });
  const metadata = {
    ...{ bios: 'ovmf.fd', kernel: 'bzImage', cmdline: 'console=ttyS0', initrd: 'initramfs.cpio.gz' },
    ...{ rootfs: 'rootfs.img.parted.verity', version: '0.1.0', is_dev: isDev },
    ...change.metadata,
  };
  const listed: readonly (readonly [string, string | Uint8Array])[] = [
    ['ovmf.fd', `firmware${mark}`],
    ['bzImage', 'kernel'],
    ['initramfs.cpio.gz', 'initramfs'],
    ['metadata.json', JSON.stringify(metadata)],
    ['measurement.tdx.cbor', change.document ?? document],
  ];
  const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  const list = listed.map(([name, bytes]) => `${sha256(bytes)}  ${name}\n`).join('');
  for (const [name, bytes] of listed) writeFileSync(join(folder, name), bytes);
  writeFileSync(join(folder, 'rootfs.img.parted.verity'), 'root');
  writeFileSync(join(folder, 'sha256sum.txt'), list);
  writeFileSync(join(folder, 'digest.txt'), `${sha256(list)}\n`);
}
