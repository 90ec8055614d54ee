import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { CreateOptions } from '../change/create-options.ts';
import { stopCvm } from '../run/lifecycle.ts';

const here = dirname(fileURLToPath(import.meta.url));

const SOCKET = `
const net=require('node:net'),fs=require('node:fs'),http=require('node:http');
const arg=n=>process.argv[process.argv.indexOf(n)+1];
const listen=p=>net.createServer(s=>s.destroy()).listen(p);
const modeOf=c=>{const text=fs.readFileSync(c.host_shared+'/app-compose.json','utf8'); return (/mode: ([a-z]+)/.exec(text)||[text,text])[1];};
`;
/**
 * Programs that behave as the guest's do towards the supervisor. How, says app-compose.json: the mode is all of it, or what
 * follows `mode: ` in it.
 */
export const FAKE_GUEST: Readonly<Record<string, string>> = {
  'dstack-tee-simulator': `${SOCKET}
if(process.argv[2]==='image') console.log(JSON.stringify({os_image_hash:'44'.repeat(32),vm_config:{}})); else listen(arg('--socket'));`,
  'dstack-prepare': `${SOCKET}
const c=JSON.parse(fs.readFileSync(arg('--config')));
const mode=modeOf(c);
const note=(event,payload)=>new Promise(done=>{const r=http.request({socketPath:c.host_api_url.slice(5),path:'/api/Notify?json',method:'POST'},x=>{x.resume();x.on('end',done)});r.end(JSON.stringify({event,payload}))});
(async()=>{ await note('boot.progress','requesting app keys');
 if(mode==='denied'){ await note('boot.error','Boot denied: Compose hash not allowed'); console.error('denied'); process.exit(1);}
 if(mode==='noisy') for(let i=0;i<40;i++) await note('app.says','\\u0001'.repeat(4096));
 if(mode==='hangs') await new Promise(()=>setInterval(()=>0,1000));
 if(mode==='silent'){ console.error('out of luck'); process.exit(3);}
 await note('instance.info',JSON.stringify({instance_id_seed:'11'.repeat(20),instance_id:'22'.repeat(20),app_id:'33'.repeat(20)})); })();`,
  'dstack-guest-agent': `${SOCKET}listen(JSON.parse(fs.readFileSync(arg('--config'))).listen.dstack_sock);`,
  'dstack-app-runner': `${SOCKET}
const c=JSON.parse(fs.readFileSync(arg('--config')));
fs.mkdirSync(c.runner.log_dir,{recursive:true}); fs.writeFileSync(c.runner.log_dir+'/web.log','hello\\n');
const child=require('node:child_process').spawn('sleep',['600']); fs.writeFileSync(c.work_dir+'/child.pid',String(child.pid));
const mode=modeOf(c);
fs.mkdirSync(c.work_dir+'/.host-shared',{recursive:true,mode:0o700});
for(const name of ['.appkeys.json','.decrypted-env','.decrypted-env.json','.user-config','.encrypted-env']) fs.writeFileSync(c.work_dir+'/.host-shared/'+name,'secret');
if(mode==='daemon') require('node:child_process').execFileSync('sh',['-c','(setsid sh -c \\'trap "" TERM HUP; sleep 600 & echo $! > "$1"; wait\\' sh "$1" >/dev/null 2>&1 </dev/null &) ','sh',c.work_dir+'/daemon.pid']);
const r=http.request({socketPath:c.host_api_url.slice(5),path:'/api/Notify?json',method:'POST'},x=>x.resume());
r.end(JSON.stringify({event:'boot.progress',payload:'done'}));
console.log('port '+c.runner.env.PORT);
if(mode==='dies') setTimeout(()=>process.exit(9),300); else setInterval(()=>0,1000);`,
};

/** A folder with programs that stand for the guest's, and the options of a machine in it. */
export interface MachineLab {
  readonly root: string;
  /** The folder of machines. */
  readonly runPath: string;
  readonly options: CreateOptions;
  /** The options with another behaviour of the guest: `ok`, `denied`, `hangs`, `silent`, `dies`, `noisy`, `daemon`. */
  withMode(mode: string): CreateOptions;
  /** The number that the guest's program wrote, once it has. */
  pid(name: 'child' | 'daemon'): Promise<number>;
  cleanUp(): Promise<void>;
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Makes one; from then on this process starts the lab's programs. */
export function machineLab(): MachineLab {
  const root = mkdtempSync(join(tmpdir(), 'vmm-test-'));
  for (const [name, source] of Object.entries(FAKE_GUEST)) writeFileSync(join(root, `${name}.js`), source);
  writeFileSync(join(root, 'package.json'), '{"type":"commonjs"}');
  // The supervisor itself is the real one, from source.
  const main = pathToFileURL(join(here, '../main.ts')).href;
  writeFileSync(join(root, 'dstack-vmm.js'), `import(${JSON.stringify(main)});`);
  process.env['DSTACK_BIN_DIR'] = root;
  process.env['NODE_OPTIONS'] = `--import ${import.meta.resolve('tsx')} -C @dstack/source`;
  const options: CreateOptions = {
    dir: join(root, 'vm/one'),
    name: 'one',
    appId: '33'.repeat(20),
    image: 'dstack-sim-0.1',
    shared: { 'app-compose.json': utf8('ok'), '.sys-config.json': utf8('{}') },
    seedFile: join(root, 'seed'),
    ports: [{ host: 0, guest: 80 }],
    engine: 'process',
  };
  return {
    root,
    runPath: join(root, 'vm'),
    options,
    withMode: (mode) => ({ ...options, shared: { ...options.shared, 'app-compose.json': utf8(mode) } }),
    pid: async (name) => {
      const path = join(options.dir, `guest/dstack/${name}.pid`);
      for (let i = 0; i < 200; i += 1) {
        try {
          const pid = Number(readFileSync(path, 'utf8'));
          if (pid > 0) return pid;
        } catch {
          // Not yet.
        }
        await sleep(25);
      }
      throw new Error(`There is no ${path}`);
    },
    cleanUp: async () => {
      await stopCvm(options.dir).catch(() => undefined);
      delete process.env['DSTACK_BIN_DIR'];
      delete process.env['NODE_OPTIONS'];
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** Waits until something holds, for as long as a loaded machine may need. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('It did not come true');
    await sleep(25);
  }
}
