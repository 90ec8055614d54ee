import { toHex } from '@dstack-cloud/encoding';
import { readArguments } from './arguments.ts';
import { bootArguments, MACHINE_OPTIONS, machineArguments } from './machine-arguments.ts';

/** `dstack-tee-simulator image`: the measurements of a simulated image, and the vm_config that explains them. */
export async function imageCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(argv, MACHINE_OPTIONS, []);
  const machine = machineArguments(args);
  const boot = await bootArguments(args);
  const [rtmr0, rtmr1, rtmr2] = boot.rtmrs.map(toHex);
  const document = {
    simulated: true,
    image: machine.image,
    os_image_hash: toHex(boot.osImageHash),
    mrtd: toHex(boot.mrTd),
    rtmr0,
    rtmr1,
    rtmr2,
    vm_config: boot.vmConfig,
  };
  process.stdout.write(`${JSON.stringify(document)}\n`);
}
