import type { DevicePlan } from './device-plan.ts';

/** Numbers of the first expander bridge, as the original VMM has them: they decide where the guest sees its GPUs. */
const FIRST_ADDRESS = 0xa;
const FIRST_BUS = 5;

/** Memory in huge pages of the host's NUMA nodes, and the devices that are handed over. */
export function deviceArguments({ vcpu, nodes, gpus, bridges }: DevicePlan): string[] {
  const perNode = vcpu / nodes.length;
  let bus = FIRST_BUS;
  const numa = nodes.flatMap(({ node, gib }, index) => {
    const cpus = `${index * perNode}-${(index + 1) * perNode - 1}`;
    const expander = `pxb-pcie,id=pcie.node${node},bus=pcie.0,addr=${FIRST_ADDRESS + index},numa_node=${index},bus_nr=${bus}`;
    bus += gpus.filter((gpu) => gpu.node === node).length + 1;
    return [
      ...['-numa', `node,nodeid=${index},cpus=${cpus},memdev=mem${index}`],
      '-object',
      `memory-backend-file,id=mem${index},size=${gib}G,mem-path=/dev/hugepages,share=on,prealloc=yes,host-nodes=${node},policy=bind`,
      ...['-device', expander],
    ];
  });
  const passed = [
    ...gpus.map(({ slot, node }) => ({ slot, bus: nodes.length === 0 ? 'pcie.0' : `pcie.node${node}` })),
    ...bridges.map(({ slot }) => ({ slot, bus: 'pcie.0' })),
  ];
  return [
    ...numa,
    ...(passed.length === 0 ? [] : ['-object', 'iommufd,id=iommufd0']),
    ...passed.flatMap((device, index) => handedOver(device, index + 1)),
  ];
}

function handedOver(
  { slot, bus }: { readonly slot: string; readonly bus: string },
  number: number,
): string[] {
  return [
    ...['-device', `pcie-root-port,id=pci.${number},bus=${bus},chassis=${number}`],
    ...['-device', `vfio-pci,host=${slot},bus=pci.${number},iommufd=iommufd0`],
  ];
}
