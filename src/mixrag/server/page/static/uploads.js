// Files that are dropped or chosen: those in folders too, what fits into one request, and the report of several.

const FORBIDDEN = /[<>:"|?*#%\u0000-\u001f\u007f-\u009f\ufffd]/g;
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
const OVERHEAD = 1000;
const MOST_FILES = 5000;

/** The files of a drop, those in its folders with their path in it; at most `MOST_FILES`. */
export async function filesOf(transfer) {
  const entries = [...(transfer.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

async function walk(entry, folder, found) {
  if (found.length >= MOST_FILES || entry.name.startsWith(".")) return;
  const path = folder ? `${folder}/${entry.name}` : entry.name;
  if (!entry.isDirectory) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push(folder ? named(file, path) : file);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return;
    for (const each of some) await walk(each, path, found);
  }
}

function named(file, path) {
  Object.defineProperty(file, "path", { value: path });
  return file;
}

/** What a file is called when it is sent: its path in a folder that was dropped or chosen, else its name. */
export function nameOf(file) {
  return file.path || file.webkitRelativePath || file.name;
}

/** The name that the server gives to it. */
export function storedName(name) {
  const parts = name.normalize("NFC").split(/[/\\]/);
  const cleaned = parts.map((part) => part.replace(INVISIBLE, "").replace(/\p{Zs}/gu, " ").normalize("NFC").replace(FORBIDDEN, "_").replace(/^[ .]+|[ .]+$/g, ""));
  return cleaned.filter(Boolean).join("__") || "document";
}

/**
 * Which files go in which request, and which are left out: `{batches, left}`, `left` pairs of name and reason.
 * `limits` has the most `files` of a request, `file_bytes` of a file, and `bytes` of a request.
 */
export function planned(files, limits) {
  const [batches, left, names] = [[], [], new Set()];
  let room = null;
  for (const file of files) {
    const name = nameOf(file);
    const size = file.size + OVERHEAD;
    if (file.size > limits.file_bytes || size > limits.bytes) {
      left.push([name, `larger than ${megabytes(Math.min(limits.file_bytes, limits.bytes))}, the most that this server takes`]);
    } else if (names.has(storedName(name))) {
      left.push([name, "another file of the same name was added with it; rename one of them"]);
    } else {
      names.add(storedName(name));
      if (!room || room.files === 0 || room.bytes < size) {
        room = { files: limits.files, bytes: limits.bytes };
        batches.push([]);
      }
      batches.at(-1).push(file);
      room.files -= 1;
      room.bytes -= size;
    }
  }
  return { batches, left };
}

/** "25 MB". */
export function megabytes(bytes) {
  return `${Number((bytes / 2 ** 20).toFixed(1))} MB`;
}

/** One report of several, and of files that were left out. */
export function joined(reports, left = []) {
  const all = (name) => reports.flatMap((each) => each[name] ?? []);
  const missing = left.map(([name, reason]) => ({ name, stored: false, reason }));
  const added = reports.reduce((sum, each) => sum + (each.added ?? 0), 0);
  return { added, files: [...all("files"), ...missing], skipped: all("skipped"), notices: all("notices") };
}

/** Files dropped anywhere: `add(files)` takes them, and `sign` is shown while they are over the page. */
export function listenForFiles(sign, add) {
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    sign.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) sign.hidden = true;
  });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    sign.hidden = true;
    add(await filesOf(event.dataTransfer));
  });
}
