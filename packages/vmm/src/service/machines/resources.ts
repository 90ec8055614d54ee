import { VmmError } from '../../errors.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import type { Machine } from './machine.ts';

/**
 * Refuses a start beyond what the machines of this host may have together.
 *
 * @throws VmmError `no_resources`
 */
export function requireResources(
  wanted: { readonly vcpu: number; readonly memory: number },
  machines: readonly Machine[],
  { max_allocable_vcpu, max_allocable_memory_in_mb }: VmmConfig['cvm'],
): void {
  const running = machines.flatMap(({ holdsHost, record, manifest }) =>
    manifest !== undefined && (holdsHost || record.started) ? [manifest.vm] : [],
  );
  const vcpu = running.reduce((sum, vm) => sum + vm.vcpu, 0);
  const memory = running.reduce((sum, vm) => sum + vm.memory, 0);
  if (vcpu + wanted.vcpu > max_allocable_vcpu)
    throw new VmmError('no_resources', `The machines that run have ${vcpu} of ${max_allocable_vcpu} vCPUs`, {
      expected: `at most ${max_allocable_vcpu - vcpu} vCPUs (cvm.max_allocable_vcpu)`,
      found: String(wanted.vcpu),
    });
  if (memory + wanted.memory > max_allocable_memory_in_mb)
    throw new VmmError(
      'no_resources',
      `The machines that run have ${memory} of ${max_allocable_memory_in_mb} MB of memory`,
      {
        expected: `at most ${max_allocable_memory_in_mb - memory} MB (cvm.max_allocable_memory_in_mb)`,
        found: `${wanted.memory} MB`,
      },
    );
}
