import { UNPRINTABLE } from '@dstack-cloud/encoding';

/**
 * The script of the console page. Everything that it shows goes through `textContent`: names, logs and events are the
 * words of others. It talks to its own origin alone.
 */
export const CONSOLE_SCRIPT: string = String.raw`'use strict';
const byId = (id) => document.getElementById(id);
const unprintable = /${UNPRINTABLE.source}/gu;
const shown = (text) => String(text ?? '').slice(0, 262144)
  .replace(unprintable, (c) => (c === '\n' ? c : '\\u{' + c.codePointAt(0).toString(16) + '}'));
const element = (name, text, attributes = {}) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = shown(text);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const say = (text, isError = false) => {
  // The page behind an open dialog cannot be read.
  const place = byId(byId('dialog').open ? 'problem' : 'message');
  place.textContent = shown(text);
  place.className = isError ? 'error' : '';
};
async function call(method, body = {}, mount = '/prpc') {
  const request = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  const answer = await fetch(mount + '/' + method + '?json', request).catch(() => {
    throw new Error('The service does not answer: it may have ended, or the network has');
  });
  const text = await answer.text();
  let value;
  try { value = JSON.parse(text); } catch { throw new Error(text || 'status ' + answer.status); }
  if (!answer.ok) throw new Error(value?.error ?? text);
  return value;
}
const run = (work) => async (event) => {
  event?.preventDefault?.();
  try { await work(event); } catch (error) { say(error.message, true); }
};

const SIZE = 20;
let page = 1;
let open = '';
let listing;
async function refresh() {
  const query = { brief: true, keyword: byId('search').value, page, page_size: SIZE };
  listing = await call('Status', query);
  const pages = Math.max(1, Math.ceil(listing.total / SIZE));
  if (page > pages) { page = pages; return refresh(); }
  byId('page').textContent = 'Page ' + page + ' of ' + pages + ', ' + listing.total + (listing.total === 1 ? ' machine' : ' machines');
  byId('previous').disabled = page <= 1;
  byId('next').disabled = page >= pages;
  const rows = [];
  for (const vm of listing.vms) {
    const row = element('tr', undefined, { 'data-id': vm.id });
    const name = element('td');
    const button = element('button', vm.name, { type: 'button', class: 'link', 'aria-expanded': String(open === vm.id) });
    button.onclick = run(async () => { open = open === vm.id ? '' : vm.id; await refresh(); });
    name.append(button);
    row.append(name, element('td', vm.status, { class: 'status-' + vm.status }), element('td', vm.uptime),
      element('td', vm.boot_error || vm.shutdown_progress || vm.boot_progress), actionsOf(vm));
    rows.push(row);
    if (open === vm.id) rows.push(await detailsOf(vm));
  }
  const isSearch = byId('search').value !== '';
  byId('empty').textContent = rows.length > 0 ? '' : isSearch ? 'No machine matches.' : 'There are no machines yet. “New machine” makes one.';
  byId('list').hidden = rows.length === 0;
  byId('pages').hidden = pages === 1 && rows.length === 0;
  byId('machines').replaceChildren(...rows);
}
function actionsOf(vm) {
  const cell = element('td');
  const add = (label, work) => {
    const button = element('button', label, { type: 'button' });
    button.onclick = run(async () => { await work(); await refresh(); });
    cell.append(button, ' ');
  };
  const act = (label, method, question) => add(label, async () => {
    if (question && !confirm(question)) return;
    await call(method, { id: vm.id });
    say(label + ': ' + vm.name);
  });
  if (vm.status === 'running' || vm.status === 'stopping') {
    act('Shut down', 'ShutdownVm', 'Shut ' + vm.name + ' down? Its application ends.');
    act('Kill', 'StopVm', 'End ' + vm.name + ' at once? What its guest has not written to its disk is lost.');
  } else {
    act('Start', 'StartVm');
    act('Remove', 'RemoveVm', 'Remove ' + vm.name + '? Its disk goes to the trash, and is deleted later.');
  }
  add('Update', () => edit(vm.id, true));
  add('Clone', () => edit(vm.id, false));
  return cell;
}
async function detailsOf(vm) {
  const { found, info } = await call('GetInfo', { id: vm.id });
  const cell = element('td', undefined, { colspan: '5', class: 'details' });
  const row = element('tr', undefined, { 'data-details': vm.id });
  row.append(cell);
  if (!found) return row;
  const { configuration: c } = info;
  const list = element('dl');
  const pair = (name, value) => {
    if (value === undefined || value === null || value === '') return undefined;
    const node = element('dd', value);
    list.append(element('dt', name), node);
    return node;
  };
  const copied = (name, value) => {
    const node = pair(name, value);
    if (node === undefined) return;
    const copy = element('button', 'Copy', { type: 'button', class: 'copy', 'aria-label': 'Copy ' + name });
    copy.onclick = run(() => navigator.clipboard.writeText(String(value)));
    node.append(' ', copy);
  };
  copied('VM', info.id);
  copied('App', info.app_id);
  copied('Instance', info.instance_id);
  copied('App URL', info.app_url);
  pair('Exited', info.exited_at);
  pair('Boot error', info.boot_error);
  if (c) {
    pair('Image', c.image + (info.image_version ? ' (' + info.image_version + ')' : ''));
    pair('TEE', c.no_tee ? 'none' : 'yes');
    pair('GPUs', c.gpus?.gpus.map(({ slot }) => slot).join(', '));
    if (c.hugepages) pair('Memory', 'in huge pages');
    if (c.pin_numa) pair('Processors', 'of one NUMA node');
    pair('Size', c.vcpu + ' vCPU, ' + c.memory + ' MB, ' + c.disk_size + ' GB');
    for (const p of c.ports) pair('Port', p.protocol + ' ' + p.host_address + ':' + p.host_port + ' to ' + p.vm_port);
    for (const url of c.kms_urls) pair('KMS', url);
  }
  for (const i of info.interfaces) pair('Network', i.mode + ' ' + i.mac + ' ' + (i.bridge_name ?? ''));
  cell.append(list);
  const log = element('pre', '', { class: 'log' });
  const tool = (label, work) => {
    const button = element('button', label, { type: 'button' });
    button.onclick = run(work);
    cell.append(button, ' ');
  };
  for (const [label, channel] of [['Serial log', 'serial'], ['QEMU log', 'stdout'], ['Supervisor log', 'stderr']])
    tool(label, async () => {
      const query = new URLSearchParams({ id: vm.id, follow: 'false', ansi: 'false', lines: '500', ch: channel });
      const answer = await fetch('/logs?' + query);
      log.textContent = shown(await answer.text());
    });
  if (vm.status === 'running') {
    tool('Guest', async () => { log.textContent = shown(JSON.stringify(await call('SysInfo', { id: vm.id }, '/guest'), null, 2)); });
    tool('Guest network', async () => { log.textContent = shown(JSON.stringify(await call('NetworkInfo', { id: vm.id }, '/guest'), null, 2)); });
    tool('Containers', async () => { log.textContent = shown(JSON.stringify(await call('ListContainers', { id: vm.id }, '/guest'), null, 2)); });
  }
  if (c) {
    tool('Save app-compose.json', () => save('app-compose.json', c.compose_file));
    if (c.user_config) tool('Save user config', () => save('user-config', c.user_config));
  }
  const events = element('ul');
  for (const e of info.events) events.append(element('li', new Date(e.timestamp).toISOString() + '  ' + e.event + '  ' + e.body));
  cell.append(log, events);
  return row;
}
let timer;
async function showImages() {
  clearTimeout(timer);
  byId('images-button').setAttribute('aria-expanded', String(!byId('images').hidden));
  if (byId('images').hidden) return;
  const { images } = await call('ListImages');
  let remote = [];
  let problem = '';
  try { remote = (await call('ListRegistryImages')).images; } catch (error) { problem = error.message; }
  const names = [...new Set([...images.map(({ name }) => name), ...remote.map(({ tag }) => tag)])].sort();
  byId('image-list').replaceChildren(...names.map((name) =>
    imageRow(name, images.find((image) => image.name === name), remote.find(({ tag }) => tag === name))));
  byId('registry').textContent = shown(problem || (names.length > 0 ? '' : 'The registry has no images.'));
  if (remote.some(({ pulling }) => pulling)) timer = setTimeout(run(showImages), 2000);
}
function imageRow(name, local, remote) {
  const row = element('tr', undefined, { 'data-image': name });
  const cell = element('td');
  const add = (label, work) => {
    const button = element('button', label, { type: 'button', 'aria-label': label + ' ' + name });
    button.onclick = run(async () => { await work(); await showImages(); });
    cell.append(button, ' ');
  };
  if (local) add('Delete', async () => {
    if (!confirm('Delete the image ' + name + '? No machine can be made of it any more.')) return;
    await call('DeleteImage', { id: name });
    say('Deleted: ' + name);
  });
  else if (remote && !remote.local && !remote.pulling) add('Pull', () => call('PullRegistryImage', { tag: name }));
  const state = local ? 'on this host' : remote?.pulling ? 'pulling: ' + remote.progress
    : remote?.error ? remote.error : remote?.local ? 'on this host, damaged' : 'in the registry';
  row.append(element('td', name), element('td', local ? local.version + (local.is_dev ? ' (dev)' : '') : ''),
    element('td', state, remote?.error && !local ? { class: 'error' } : {}), cell);
  return row;
}
function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
  const link = element('a', undefined, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const form = byId('form');
const field = (name) => form.elements.namedItem(name);
const lines = (name) => field(name).value.split('\n').map((line) => line.trim()).filter(Boolean);
let editing;
async function edit(id, isUpdate) {
  form.reset();
  editing = undefined;
  byId('problem').textContent = '';
  const [{ images }, gpus] = await Promise.all([call('ListImages'), call('ListGpus')]);
  if (images.length === 0) throw new Error('There is no OS image: pull one under “Images”, or make one with dstack-cloud image build, in image_path of the configuration');
  field('image').replaceChildren(...images.map(({ name, is_dev }) => element('option', name + (is_dev ? ' (dev)' : ''), { value: name })));
  if (id) {
    const { info } = await call('GetInfo', { id });
    const c = info?.configuration;
    if (!c) throw new Error('This machine has no readable configuration');
    if (isUpdate) editing = { id, before: c };
    for (const key of ['name', 'image', 'vcpu', 'memory', 'disk_size', 'user_config']) field(key).value = c[key];
    field('compose_file').value = c.compose_file;
    for (const key of ['no_tee', 'hugepages', 'pin_numa']) field(key).checked = c[key];
    field('ports').value = c.ports.map((p) => [p.protocol, p.host_address, p.host_port, p.vm_port].join(':')).join('\n');
    field('kms_urls').value = c.kms_urls.join('\n');
    field('gateway_urls').value = c.gateway_urls.join('\n');
    showGpus(gpus, c.gpus);
  } else showGpus(gpus);
  for (const key of ['name', 'app_id', 'stopped', 'hugepages', 'pin_numa']) field(key).disabled = isUpdate === true;
  byId('dialog-title').textContent = editing ? 'Update ' + shown(field('name').value) : 'New machine';
  await showHash();
  byId('dialog').showModal();
}
function showGpus({ gpus, allow_attach_all }, before) {
  const box = (value, text, isChecked) => {
    const label = element('label');
    const input = element('input', undefined, { type: 'checkbox', name: 'gpu', value });
    input.checked = isChecked;
    label.append(input, ' ' + shown(text));
    return label;
  };
  const isAll = before?.attach_mode === 'all';
  const had = new Set(before?.gpus.map(({ slot }) => slot));
  byId('gpus').replaceChildren(element('legend', 'GPUs'),
    ...gpus.map((g) => box(g.slot, g.slot + ' ' + g.description + (g.is_free ? '' : ', in use'), !isAll && had.has(g.slot))),
    ...(allow_attach_all ? [box('all', 'All GPUs of the host', isAll)] : []));
  byId('gpus').hidden = gpus.length === 0 && !before;
}
function wantedGpus() {
  const values = [...byId('gpus').querySelectorAll('input:checked')].map(({ value }) => value);
  return values.includes('all') ? { attach_mode: 'all', gpus: [] } : { attach_mode: 'listed', gpus: values.map((slot) => ({ slot })) };
}
const gpuKey = (gpus) => (gpus?.attach_mode ?? 'listed') + (gpus?.attach_mode === 'all' ? '' : gpus?.gpus.map(({ slot }) => slot) ?? '');
async function showHash() {
  const text = field('compose_file').value;
  if (text === '') { byId('hash').textContent = ''; return; }
  try { byId('hash').textContent = 'Compose hash: ' + (await call('GetComposeHash', { compose_file: text })).hash; }
  catch (error) { byId('hash').textContent = shown('Compose hash: ' + error.message); }
}
function portsOf() {
  return lines('ports').map((line) => {
    const parts = line.split(':');
    if (parts.length === 3) parts.splice(1, 0, '127.0.0.1');
    const [protocol, host_address, host_port, vm_port] = parts;
    return { protocol, host_address, host_port: Number(host_port), vm_port: Number(vm_port) };
  });
}
const fromHex = (hex) => new Uint8Array((hex.match(/../g) ?? []).map((byte) => parseInt(byte, 16)));
const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
async function seal(appId) {
  const env = lines('environment').filter((line) => !line.startsWith('#') && line.includes('=')).map((line) => {
    const at = line.indexOf('=');
    return { key: line.slice(0, at).trim(), value: line.slice(at + 1).trim() };
  });
  if (env.length === 0) return undefined;
  if (!globalThis.crypto?.subtle) throw new Error('The environment is sealed in the browser, which needs HTTPS or localhost');
  const { public_key: key, signature } = await call('GetAppEnvEncryptPubKey', { app_id: appId });
  if (!confirm('Seal the environment to ' + key + '?\nThis page does not check who signed that key (' + signature.slice(0, 16) + '…): compare it with your KMS, or use dstack-cloud, which does.')) throw new Error('Not sealed');
  const own = await crypto.subtle.generateKey({ name: 'X25519' }, true, ['deriveBits']);
  const theirs = await crypto.subtle.importKey('raw', fromHex(key), { name: 'X25519' }, false, []);
  const secret = await crypto.subtle.deriveBits({ name: 'X25519', public: theirs }, own.privateKey, 256);
  const aes = await crypto.subtle.importKey('raw', secret, 'AES-GCM', false, ['encrypt']);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const text = new TextEncoder().encode(JSON.stringify({ env }));
  const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, aes, text));
  const ephemeral = new Uint8Array(await crypto.subtle.exportKey('raw', own.publicKey));
  return toHex(ephemeral) + toHex(iv) + toHex(sealed);
}
async function submit() {
  let done;
  const compose_file = field('compose_file').value;
  const user_config = field('user_config').value;
  const seal_approval = field('seal_approval').value.trim();
  const sizes = { vcpu: Number(field('vcpu').value), memory: Number(field('memory').value), disk_size: Number(field('disk_size').value) };
  const common = { image: field('image').value, no_tee: field('no_tee').checked, ...sizes };
  const urls = { kms_urls: lines('kms_urls'), gateway_urls: lines('gateway_urls') };
  if (editing) {
    const { id, before } = editing;
    const changed = Object.fromEntries(Object.entries(common).filter(([key, value]) => before[key] !== value));
    const appId = (await call('GetInfo', { id })).info.app_id;
    const encrypted_env = await seal(appId);
    await call('UpdateVm', {
      id, ...changed, compose_file: compose_file === before.compose_file ? '' : compose_file,
      user_config: user_config === before.user_config ? '' : user_config,
      update_ports: true, ports: portsOf(), update_kms_urls: true, update_gateway_urls: true, ...urls,
      ...(encrypted_env ? { encrypted_env } : {}), seal_approval,
      ...(gpuKey(wantedGpus()) === gpuKey(before.gpus) ? {} : { gpus: wantedGpus() }),
    });
    done = 'Updated: in force at the next start';
  } else {
    const { hash } = await call('GetComposeHash', { compose_file });
    const app_id = field('app_id').value.trim();
    const encrypted_env = await seal(app_id.replace(/^0x/, '') || hash.slice(0, 40));
    const { id } = await call('CreateVm', {
      name: field('name').value, compose_file, user_config, ...common, ...urls, ports: portsOf(),
      hugepages: field('hugepages').checked, pin_numa: field('pin_numa').checked, gpus: wantedGpus(),
      stopped: field('stopped').checked, seal_approval, ...(app_id ? { app_id } : {}), ...(encrypted_env ? { encrypted_env } : {}),
    });
    open = id;
    done = 'Created ' + id;
  }
  byId('dialog').close();
  say(done);
  await refresh();
}
byId('search').oninput = run(() => { page = 1; return refresh(); });
byId('previous').onclick = run(() => { page -= 1; return refresh(); });
byId('next').onclick = run(() => { page += 1; return refresh(); });
byId('new').onclick = run(() => edit());
byId('refresh').onclick = run(refresh);
byId('reload').onclick = run(async () => {
  const { loaded, updated, removed } = await call('ReloadVms');
  say('Reloaded: ' + loaded + ' new, ' + updated + ' known, ' + removed + ' gone');
  await refresh();
});
byId('images-button').onclick = run(() => {
  byId('images').hidden = !byId('images').hidden;
  return showImages();
});
byId('cancel').onclick = () => byId('dialog').close();
field('compose_file').onchange = run(showHash);
form.onsubmit = run(submit);
run(async () => { await refresh(); say('Ready'); })();
`;
