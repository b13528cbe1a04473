/*
 * glombridge_export.groovy - annotations as GeoJSON.
 *
 * Does:   writes one GeoJSON file per image, the same that 'glombridge pull' writes: one feature per object with
 *         its id, class, measurements, metadata, lock, name, colour and plane, and every digit of its outline. The
 *         project is not changed. Each file is at every moment the old or the complete new one.
 * Needs:  QuPath 0.4 or later, no extension; glombridge_shared, _exchange and _dialogs.groovy in the same folder.
 * Tried:  with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0; its dialogs in 0.4.4 and 0.5.1.
 * Run:    Automate > Project scripts > glombridge_export: all images of the project, or the open image where no
 *         project is open. Of an image that is open in a viewer what you see is written, saved or not.
 *         Or without a window:  QuPath script glombridge_export.groovy --args job.json
 *
 * job.json: {"format": 1, "project": "project.qpproj", "images": ["a.svs", 3] or null, "out": "folder",
 *            "objects": "annotations" or "all", "result": "result.json"}
 * Paths are relative to the job file. A number is the id of an entry, a text its name. The result file says
 * {"format": 1, "ok": true, "error": null, "images": [{"image", "id", "ok", "error", "objects", "file"}]}; read it,
 * because QuPath's exit code is 0 even when an image failed.
 */

import groovy.transform.Field
import java.nio.file.Files
import java.nio.file.Path

// Parameters.

@Field final Map PARAMETERS = [
    // Folder for the files; empty = you are asked.
    out: '',
    // 'annotations' (and detections that glombridge pushed), or 'all': detections, cells, tiles and cores too.
    objects: 'annotations',
]

// These lines stand in every script: they find glombridge_shared.groovy beside it, or in the open project.
@Field Object shared = null
List<File> folders = []
if (binding.variables['qupath.script.file'] != null) {
    folders << new File(binding.variables['qupath.script.file'] as String).parentFile
}
try {
    folders << Class.forName('qupath.lib.gui.QuPathGUI').getInstance()?.getProject()?.getPath()?.parent?.resolve('scripts')?.toFile()
} catch (ClassNotFoundException | LinkageError ignored) {
    // No user interface: then the script was started from its file.
}
File file = folders.findAll { it != null }.collect { new File(it, 'glombridge_shared.groovy') }.find { it.isFile() }
if (file == null) {
    throw new FileNotFoundException('glombridge_shared.groovy must lie beside this script. Run "glombridge scripts PROJECT", ' +
        'or copy the whole folder qupath_scripts into the folder "scripts" of the project.')
}
shared = new GroovyShell(this.class.classLoader).parse(file)
if (!shared.metaClass.respondsTo(shared, 'begin')) {
    throw new IllegalStateException("${file} is of an older glombridge than this script, and was left as it is because somebody changed it. " +
        "Take the newer one, which lies beside it with '.new' behind its name, and run 'glombridge scripts PROJECT' again.")
}
shared.begin(file.parentFile, 2)

@Field Object exchange = null
exchange = shared.part('glombridge_exchange.groovy')

/** Writes the objects of one image; what the result says of it. */
Map export(Path out, String name, Object hierarchy, String which) {
    List objects = exchange.stored.objects(hierarchy).findAll { object ->
        which == 'all' || object.isAnnotation() || (object.isDetection() && shared.objects.metadata(object)['glombridge.run'] != null)
    }
    shared.json.write(out.resolve(name), exchange.geoJson.text(objects))
    return [objects: objects.size(), file: name]
}

/** All that are chosen; of open ones what is seen. */
List<Map> exportAll(Object project, List wanted, Path out, String which) {
    if (!(which in ['annotations', 'all'])) {
        throw new IllegalArgumentException("'objects' is ${which}; it is 'annotations' or 'all'.")
    }
    Files.createDirectories(out)
    Map open = exchange.desk.openImages(project)
    return exchange.eachImage(exchange.chosen.chosen(project, wanted)) { row ->
        def entry = row.entry
        def hierarchy = open[entry.getID()]?.getHierarchy() ?: exchange.stored.hierarchy(entry)
        export(out, exchange.fileNames.of(entry.getID(), entry.getImageName()), hierarchy, which)
    }
}

String job = exchange.jobOf(binding)
if (job != null) {
    exchange.runJob(job) { said, project ->
        if (!said.out) {
            throw new IllegalArgumentException("The job names no folder for the files ('out').")
        }
        [images: exportAll(project, said.images as List, said.out as Path, (said.objects ?: 'annotations') as String)]
    }
    return
}
def gui = exchange.desk.window()
if (gui == null || (gui.getProject() == null && gui.getImageData() == null)) {
    throw new IllegalStateException('Open a project or an image first, or give a job file: --args job.json')
}
Path out = PARAMETERS.out ? new File(PARAMETERS.out as String).toPath() : exchange.dialogs.chooseFolder('Folder for the GeoJSON files')
if (out == null) {
    return
}
List<Map> done
if (gui.getProject() == null) {
    String image = gui.getImageData().getServer().getMetadata().getName()
    Files.createDirectories(out)
    String name = exchange.fileNames.safe(image) + '.geojson'
    done = [[image: image, ok: true] + export(out, name, gui.getImageData().getHierarchy(), PARAMETERS.objects)]
} else {
    done = exportAll(gui.getProject(), null, out, PARAMETERS.objects)
}
List<Map> failed = done.findAll { !it.ok }
exchange.dialogs.tell(failed ? "${failed.size()} of ${done.size()} images could not be exported" : "${done.size()} images exported to ${out}",
    done.collect { it.ok ? "${it.image}: ${it.objects} objects in ${it.file}" : "${it.image}: ${it.error}" }*.toString(), !failed)
