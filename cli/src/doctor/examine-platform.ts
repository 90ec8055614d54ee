import { join } from 'node:path';
import { chooseAcceleration, findProgram, qemuProgram, vmImage } from '@dstack-cloud/vmm';
import { CliError } from '../errors.ts';
import { findImage } from '../image/find-image.ts';
import { findDeployment } from '../platforms/deployment.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import type { Place } from '../platforms/platform.ts';
import { prepareProject } from '../platforms/prepare-project.ts';
import { localDriver } from '../project/local-driver.ts';
import { Examination, type Finding } from './examination.ts';
import { examineKeys } from './examine-keys.ts';

/** What a deploy on this host or on AWS needs, by the checks of the deploy itself. */
export async function examinePlatform(place: Place): Promise<Finding[]> {
  const examination = new Examination();
  const { look, open } = examination;
  const { context, config, project } = place;
  const { platform: name } = project.config;
  if (name === 'local' && localDriver(config, project) === 'vm') await examineHost(place, examination);
  const isPrepared = await look('application', async () => {
    const { appId, composeHash, osImageHash, blockers } = await prepareProject(context, config, project);
    if (blockers.length > 0)
      throw new CliError('bad_compose_file', `it could not start: ${blockers.join('; ')}`, {
        hint: 'Change the compose file, or make the files in prelaunch.sh, inside the machine',
      });
    return `app ${appId}, compose hash ${composeHash}, OS image ${osImageHash}`;
  });
  if (isPrepared)
    await look('machine', async () => {
      const platform = await loadPlatform(name);
      const { state, problem } = await findDeployment(place, platform);
      if (problem !== undefined) throw problem;
      const prepared = await prepareProject(context, config, project);
      await platform.check(place, prepared, state);
      return state === undefined
        ? 'there is none yet; a deploy can make it'
        : `${state.instance_name} can be updated`;
    });
  else open('machine', 'not looked at: the application is not right');
  await examineKeys(place, examination);
  return examination.findings;
}

/** What a machine of our OS image needs of this host. */
async function examineHost({ context, config, project }: Place, { look, open }: Examination): Promise<void> {
  let qemu: string | undefined;
  await look('QEMU', async () => {
    const found = await qemuProgram(config.local.qemu);
    qemu = found.path;
    return `${found.path}, version ${found.version}`;
  });
  let kernel: string | undefined;
  await look('OS image', async () => {
    const { folder } = await findImage(context, project.config.os_image);
    const image = await vmImage(folder, 'direct');
    kernel = join(folder, image.kernel);
    return `${folder}, flavour ${image.isDev ? 'dev' : 'prod'}`;
  });
  if (qemu === undefined || kernel === undefined) open('KVM', 'not looked at: it takes QEMU and an OS image');
  else {
    const { noKvm } = await chooseAcceleration('auto', qemu, kernel);
    open('KVM', noKvm === null ? 'works' : `${noKvm}; machines run without it, several times slower`);
  }
  for (const [program, use] of [
    ['swtpm', 'machines with a TPM'],
    ['vhost-device-vsock', 'the channel between host and machine where the kernel has no vhost-vsock'],
  ] as const) {
    const path = findProgram(program);
    if (path === undefined) open(program, `not installed; needed for ${use}`);
    else await look(program, async () => path);
  }
}
