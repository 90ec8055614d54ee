/** `prod` has no way in; `dev` has a shell on the serial console and may be reached by a simulated TEE. */
export type Flavour = 'prod' | 'dev';

/**
 * The kernel command line. It is measured, so it says what the image is: which root, checked by which hash, and
 * whether this is a development image.
 *
 * - `efi=noruntime`, `systemd.import_credentials=no`, `systemd.gpt_auto=0`: nothing is taken from EFI variables, SMBIOS
 *   strings or partitions that are not measured.
 * - `random.trust_cpu`, not the boot loader's seed: the host could know the latter.
 * - `lsm=`: without BPF programs, which lockdown refuses anyway, and systems of rules that the image has no rules for.
 * - `no-kvmclock`, `tsc=reliable`: the host's clock page is not trusted.
 * - `no_timer_check`: no test of how the old timer is wired, which a busy host fails and the kernel panics over.
 */
export function commandLine(
  flavour: Flavour,
  root: { readonly hash: string; readonly size: number },
): string {
  return [
    'console=ttyS0',
    'panic=1',
    'oops=panic',
    'mce=off',
    'net.ifnames=0',
    'random.trust_cpu=on',
    'random.trust_bootloader=off',
    'tsc=reliable',
    'no-kvmclock',
    'no_timer_check',
    'efi=noruntime',
    'lsm=landlock,lockdown,yama,integrity',
    'lockdown=confidentiality',
    'module.sig_enforce=1',
    'systemd.gpt_auto=0',
    'systemd.import_credentials=no',
    'systemd.show_status=0',
    'quiet',
    'loglevel=4',
    ...(flavour === 'dev' ? ['dstack.flavour=dev'] : []),
    `dstack.rootfs_hash=${root.hash}`,
    `dstack.rootfs_size=${root.size}`,
  ].join(' ');
}
