/*
 * The EFI program at the start of our unified kernel image (UEFI 2.10). It starts the kernel that the same file holds,
 * with the command line and the initrd that the same file holds, and takes nothing else: no load options, no add-on
 * files, no credentials, no SMBIOS strings. So the Authenticode digest of the file, which the firmware measures before
 * this code runs, says all that runs.
 *
 * The kernel is loaded through the firmware (LoadImage), which measures it a second time. The kernel measures its
 * command line and its initrd itself (PCR 9; RTMR 2).
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef u64 status;
typedef void *handle;
#define EFI __attribute__((ms_abi))

#define ERROR(code) ((1UL << 63) | (code))
#define LOAD_ERROR ERROR(1)
#define INVALID_PARAMETER ERROR(2)
#define UNSUPPORTED ERROR(3)
#define BUFFER_TOO_SMALL ERROR(5)
#define NOT_FOUND ERROR(14)
#define ACCESS_DENIED ERROR(15)

enum { LOADER_DATA = 2 };

struct guid { u32 a; u16 b, c; u8 d[8]; };

/* Filled in by the image builder: where the sections of this file are, relative to the image base. */
struct sections {
  u64 magic;
  u32 cmdline, cmdline_size;
  u32 initrd, initrd_size;
  u32 kernel, kernel_size;
};
__attribute__((section(".data.sections"), used)) volatile struct sections sections = { 0x425554534b545344UL, 0, 0, 0, 0, 0, 0 };

struct text_output {
  void *reset;
  status (EFI *output_string)(struct text_output *, const u16 *);
};

struct loaded_image {
  u32 revision;
  handle parent;
  void *system_table;
  handle device;
  void *file_path;
  void *reserved;
  u32 load_options_size;
  void *load_options;
  u8 *image_base;
  u64 image_size;
};

struct boot_services {
  u8 header[24];
  void *raise_tpl, *restore_tpl;
  void *allocate_pages, *free_pages, *get_memory_map;
  status (EFI *allocate_pool)(int type, u64 size, void **buffer);
  status (EFI *free_pool)(void *buffer);
  void *create_event, *set_timer, *wait_for_event, *signal_event, *close_event, *check_event;
  void *install_protocol, *reinstall_protocol, *uninstall_protocol;
  status (EFI *handle_protocol)(handle, const struct guid *, void **interface);
  void *reserved;
  void *register_protocol_notify, *locate_handle;
  status (EFI *locate_device_path)(const struct guid *, void **path, handle *);
  void *install_configuration_table;
  status (EFI *load_image)(u8 boot_policy, handle parent, void *path, void *source, u64 size, handle *image);
  status (EFI *start_image)(handle image, u64 *exit_data_size, u16 **exit_data);
  void *exit;
  status (EFI *unload_image)(handle image);
  void *exit_boot_services, *get_next_monotonic_count;
  status (EFI *stall)(u64 microseconds);
  void *set_watchdog_timer, *connect_controller, *disconnect_controller;
  void *open_protocol, *close_protocol, *open_protocol_information;
  void *protocols_per_handle, *locate_handle_buffer, *locate_protocol;
  status (EFI *install_multiple)(handle *, ...);
  status (EFI *uninstall_multiple)(handle, ...);
};

struct system_table {
  u8 header[24];
  u16 *vendor;
  u32 revision;
  handle console_in_handle;
  void *console_in;
  handle console_out_handle;
  struct text_output *console_out;
  handle standard_error_handle;
  struct text_output *standard_error;
  void *runtime_services;
  struct boot_services *boot_services;
};

static const struct guid loaded_image_protocol = { 0x5b1b31a1, 0x9562, 0x11d2, { 0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b } };
static const struct guid device_path_protocol = { 0x09576e91, 0x6d3f, 0x11d2, { 0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b } };
static const struct guid load_file2_protocol = { 0x4006c0c1, 0xfcb3, 0x403e, { 0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d } };

/* LINUX_EFI_INITRD_MEDIA_GUID: under this device path the kernel asks for its initrd. */
static struct { u8 type, subtype; u16 length; struct guid vendor; u8 end_type, end_subtype; u16 end_length; }
__attribute__((packed, aligned(8))) initrd_path = {
  4, 3, 20, { 0x5568e427, 0x68fc, 0x4f3d, { 0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68 } }, 0x7f, 0xff, 4
};

static struct { u8 type, subtype; u16 length; u32 memory_type; u64 start, end; u8 end_type, end_subtype; u16 end_length; }
__attribute__((packed, aligned(8))) kernel_path = { 1, 3, 24, LOADER_DATA, 0, 0, 0x7f, 0xff, 4 };

static const u8 *initrd;
static u64 initrd_size;

static status EFI load_initrd(void *self, void *path, u8 boot_policy, u64 *size, void *buffer) {
  (void)self;
  if (!size || !path) return INVALID_PARAMETER;
  if (boot_policy) return UNSUPPORTED;
  if (!buffer || *size < initrd_size) {
    *size = initrd_size;
    return BUFFER_TOO_SMALL;
  }
  u8 *target = buffer;
  for (u64 i = 0; i < initrd_size; i++) target[i] = initrd[i];
  *size = initrd_size;
  return 0;
}

struct load_file2 { status (EFI *load_file)(void *, void *, u8, u64 *, void *); };

static struct system_table *system;

static void say(const u16 *text) {
  if (system->console_out) system->console_out->output_string(system->console_out, text);
}

/* Leaves the words on the console for a moment: the firmware may clear it. */
static status fail(const u16 *text, status why) {
  say(u"dstack: ");
  say(text);
  say(u"\r\n");
  system->boot_services->stall(3000000);
  return why;
}

status EFI efi_main(handle image, struct system_table *table) {
  struct boot_services *boot = table->boot_services;
  struct loaded_image *self, *kernel_image;
  handle kernel = 0, initrd_handle = 0, other;
  status result;
  system = table;

  if (boot->handle_protocol(image, &loaded_image_protocol, (void **)&self)) return LOAD_ERROR;
  if (!sections.kernel_size || !sections.cmdline_size || !sections.initrd_size)
    return fail(u"this image has no kernel, command line or initrd", LOAD_ERROR);
  initrd = self->image_base + sections.initrd;
  initrd_size = sections.initrd_size;

  /* The kernel would ask the first one found. */
  void *path = &initrd_path;
  if (boot->locate_device_path(&load_file2_protocol, &path, &other) == 0)
    return fail(u"something else already offers an initrd: refused", ACCESS_DENIED);
  struct load_file2 file = { load_initrd };
  result = boot->install_multiple(&initrd_handle, &device_path_protocol, &initrd_path, &load_file2_protocol, &file, (void *)0);
  if (result) return fail(u"the initrd cannot be offered to the kernel", result);

  u8 *code = self->image_base + sections.kernel;
  kernel_path.start = (u64)code;
  kernel_path.end = (u64)code + sections.kernel_size;
  result = boot->load_image(0, image, &kernel_path, code, sections.kernel_size, &kernel);
  if (result) {
    boot->uninstall_multiple(initrd_handle, &device_path_protocol, &initrd_path, &load_file2_protocol, &file, (void *)0);
    return fail(u"the firmware refuses the kernel", result);
  }
  result = boot->handle_protocol(kernel, &loaded_image_protocol, (void **)&kernel_image);
  u16 *options = 0;
  if (!result) result = boot->allocate_pool(LOADER_DATA, 2UL * (sections.cmdline_size + 1), (void **)&options);
  if (result) return fail(u"no memory for the command line", result);
  const u8 *text = self->image_base + sections.cmdline;
  for (u32 i = 0; i < sections.cmdline_size; i++) options[i] = text[i];
  options[sections.cmdline_size] = 0;
  kernel_image->load_options = options;
  kernel_image->load_options_size = 2 * (sections.cmdline_size + 1);

  result = boot->start_image(kernel, 0, 0);
  return fail(u"the kernel came back", result ? result : LOAD_ERROR);
}
