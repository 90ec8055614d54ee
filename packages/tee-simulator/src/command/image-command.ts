import { toHex } from '@dstack-cloud/encoding';
import { simulatedBoot } from '../image/simulated-image.ts';
import { readArguments } from './arguments.ts';
import { MACHINE_OPTIONS, machineArguments } from './machine-arguments.ts';

/** `dstack-tee-simulator image`: the measurements of a simulated image, and the vm_config that explains them. */
export async function imageCommand(argv: readonly string[]): Promise<void> {
  const machine = machineArguments(readArguments(argv, MACHINE_OPTIONS, []));
  const boot = simulatedBoot(machine);
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
