import { type PreparedNitro, prepareEnclave } from '../enclave/prepare-enclave.ts';
import { enclaveResult, printEnclave } from '../enclave/print-enclave.ts';
import { CliError, EXIT, messageOf } from '../errors.ts';
import type { Place } from '../platforms/platform.ts';

/**
 * `deploy --local`: builds and measures the enclave image, and says what must be registered; nothing of AWS is touched.
 *
 * @throws CliError `usage` on another platform
 */
export async function showEnclave({ context, config, project }: Place): Promise<void> {
  if (project.config.platform !== 'nitro')
    throw new CliError('usage', '--local builds an enclave image: it is for platform nitro', {
      exitCode: EXIT.usage,
      found: `platform ${project.config.platform}`,
    });
  const prepared = await prepareEnclave(context, config, project);
  for (const warning of prepared.warnings) context.warn(warning);
  printEnclave(context, prepared);
  const plan = await registrationPlan({ context, config, project }, prepared);
  for (const line of plan) context.print(line);
  context.result({ ...enclaveResult(prepared), register: plan });
}

/** What is missing on the configured chain, and who must sign it; without one, the two commands. */
async function registrationPlan(place: Place, prepared: PreparedNitro): Promise<string[]> {
  const { context, config, project } = place;
  if (prepared.enclave.kms === undefined) return [];
  const hash = prepared.enclave.measurements.OS_IMAGE_HASH;
  const commands = [
    'Both contracts must allow this image, and the app any device or yours:',
    `  npx hardhat kms:add-image ${hash}`,
    `  npx hardhat app:add-hash --app-id 0x${prepared.appId} ${hash}`,
    `  npx hardhat app:set-allow-any-device --app-id 0x${prepared.appId} --allow-any-device`,
    'or all of it: dstack-cloud measurement register --any-device',
  ];
  if (config.chain === undefined) return commands;
  const { openRegistration } = await import('./open-registration.ts');
  const { planLines } = await import('./plan.ts');
  const { workloadOfPrepared } = await import('./project-workload.ts');
  try {
    const workload = await workloadOfPrepared(context, config, project, prepared);
    const options = { anyDevice: true, allowDebug: false };
    const { view, registration, plan } = await openRegistration(context, workload, options, undefined);
    return planLines(view, registration, plan);
  } catch (error) {
    context.warn(`What the contracts allow already is not known: ${messageOf(error)}`);
    return commands;
  }
}
