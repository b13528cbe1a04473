/*
 * glombridge_setup.groovy - the menu of glombridge in QuPath.
 *
 * Does:   adds a menu with the scripts that lie beside this one, adds the classes of the grading scheme with
 *         their colours to the project, and lets classes be hidden and shown with one key. Running it again
 *         makes the menu anew and adds nothing twice. QuPath forgets menus when it closes.
 * Needs:  QuPath 0.4 or later with its user interface, no extension; glombridge_shared.groovy in the same folder.
 * Tried:  its windowless part with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0; the menu in
 *         QuPath 0.4.4 and 0.5.1, built from their sources with JavaFX 11. What it calls is in the sources of these versions.
 * Run:    Automate > Project scripts > glombridge setup, then Run in the script editor.
 */

import groovy.transform.Field
import javafx.application.Platform
import javafx.event.EventHandler
import javafx.scene.control.Alert
import javafx.scene.control.CheckMenuItem
import javafx.scene.control.Menu
import javafx.scene.control.MenuItem
import javafx.scene.control.SeparatorMenuItem
import javafx.scene.input.KeyCombination
import javafx.scene.layout.Region
import javax.script.ScriptException
import qupath.lib.objects.classes.PathClass

// Parameters.

@Field final Map PARAMETERS = [
    menu: 'glombridge',
    // What is started, if its script lies beside this one. Keys: 'shortcut' is Ctrl, on a Mac Cmd; '' = none.
    // A key that QuPath or an extension uses already is left to it.
    scripts: [
        [file: 'glombridge_review.groovy', text: 'Review window', key: 'shortcut+shift+g'],
        [file: 'glombridge_summary.groovy', text: 'Summary of grades', key: 'shortcut+shift+b'],
        [file: 'glombridge_export.groovy', text: 'Export as GeoJSON', key: ''],
        [file: 'glombridge_import.groovy', text: 'Import GeoJSON', key: ''],
    ],
    // What is hidden and shown together.
    visible: [
        [classes: 'proposals', text: 'Show proposals', key: 'shortcut+shift+h'],
        [classes: 'graded', text: 'Show graded glomeruli', key: 'shortcut+shift+j'],
        [classes: 'rejected', text: 'Show rejected', key: 'shortcut+shift+x'],
        [classes: 'errors', text: 'Show errors and disagreements', key: 'shortcut+shift+e'],
    ],
]

/** The menu and what its items do. */
class GlombridgeMenu {

    private final gui
    private final shared
    private final Map parameters
    private final File folder

    GlombridgeMenu(Object gui, Object shared, Map parameters, File folder) {
        this.gui = gui
        this.shared = shared
        this.parameters = parameters
        this.folder = folder
    }

    /** On JavaFX's thread. */
    void install() {
        Menu menu = gui.getMenu(parameters.menu, true)
        menu.getItems().clear()
        Set<KeyCombination> taken = keysIn(gui.getMenuBar().getMenus())
        List<File> found = []
        parameters.scripts.each { entry ->
            if (fileOf(entry.file) != null) {
                found << fileOf(entry.file)
                menu.getItems().add(item(new MenuItem(entry.text), entry.key, taken) { start(entry.file) })
            }
        }
        menu.getItems().add(new SeparatorMenuItem())
        Map<CheckMenuItem, String> shown = [:]
        parameters.visible.each { entry ->
            CheckMenuItem check = new CheckMenuItem(entry.text)
            shown[check] = entry.classes
            menu.getItems().add(item(check, entry.key, taken) {
                hide(entry.classes, isShown(entry.classes))
                check.setSelected(isShown(entry.classes))
            })
        }
        menu.setOnShowing({ event -> tick(shown) } as EventHandler)
        tick(shown)
        menu.getItems().add(new SeparatorMenuItem())
        menu.getItems().add(item(new MenuItem("Add this project's classes"), '', taken) { addClasses() })
        MenuItem about = new MenuItem(versions(found))
        about.setDisable(true)
        menu.getItems().add(about)
        addClasses()
    }

    /** Only adds; classes that are there keep their colour and place. */
    void addClasses() {
        def available = gui.getAvailablePathClasses()
        if (gui.getProject() != null) {
            List<PathClass> missing = scheme().missingClasses(available)
            if (missing) {
                // QuPath writes the list into the project each time that it changes.
                available.addAll(missing)
            }
        }
    }

    private Object scheme() {
        def project = gui.getProject()
        return project == null ? shared.plainScheme : shared.scheme(project.getPath().getParent())
    }

    private List<PathClass> classesOf(String group) {
        List<String> names = group == 'errors' ? shared.names.ERRORS : scheme().classNames[group]
        return names.collect { PathClass.fromString(it) }
    }

    private boolean isShown(String group) {
        return classesOf(group).any { !gui.getOverlayOptions().isPathClassHidden(it) }
    }

    private void hide(String group, boolean isToHide) {
        def options = gui.getOverlayOptions()
        // Since 0.6 a selected class is either hidden or the only one shown, as the user likes it.
        boolean isShowing = options.metaClass.respondsTo(options, 'getSelectedClassVisibilityMode') &&
            options.getSelectedClassVisibilityMode().toString() == 'SHOW_SELECTED'
        classesOf(group).each { options.setPathClassHidden(it, isToHide != isShowing) }
    }

    private void tick(Map<CheckMenuItem, String> shown) {
        shown.each { check, group -> check.setSelected(isShown(group)) }
    }

    /** The script of the open project; where it has none, the one beside this script. */
    private File fileOf(String name) {
        File ofProject = gui.getProject()?.getPath()?.getParent()?.resolve('scripts')?.resolve(name)?.toFile()
        return [ofProject, new File(folder, name)].find { it?.isFile() }
    }

    private void start(String name) {
        File file = fileOf(name)
        if (file == null) {
            warn("${name} is no longer there. Run 'glombridge scripts PROJECT', then this setup again.")
            return
        }
        // As QuPath's own script editor does: an export of many images must not stop the window.
        Thread.startDaemon("glombridge ${name}") {
            try {
                gui.runScript(file, null)
            } catch (Exception error) {
                org.slf4j.LoggerFactory.getLogger('glombridge').error(error.message, error)
                // QuPath puts the line number around it, which is in the log.
                Throwable cause = error
                while (cause instanceof ScriptException && cause.cause != null) {
                    cause = cause.cause
                }
                Platform.runLater { warn(cause.message ?: cause.toString()) }
            }
        }
    }

    private void warn(String text) {
        // Not QuPath's own dialog: its class has moved in 0.5.
        Alert alert = new Alert(Alert.AlertType.WARNING, text)
        alert.setTitle('glombridge')
        alert.setHeaderText(null)
        alert.initOwner(gui.getStage())
        // Else a long text ends in dots.
        alert.getDialogPane().setMinHeight(Region.USE_PREF_SIZE)
        alert.show()
    }

    private String versions(List<File> found) {
        List<String> seen = found.collect { shared.versionOf(it) ?: 'unknown version' }.unique()
        String text = "Scripts of glombridge: ${seen.join(', ')}"
        return seen.size() > 1 ? "${text} (mixed: run 'glombridge scripts PROJECT')" : text
    }

    private static MenuItem item(MenuItem made, String key, Set<KeyCombination> taken, Closure action) {
        made.setOnAction({ event -> action() } as EventHandler)
        if (key) {
            KeyCombination combination = KeyCombination.valueOf(key)
            if (taken.add(combination)) {
                made.setAccelerator(combination)
            }
        }
        return made
    }

    private static Set<KeyCombination> keysIn(List<MenuItem> items) {
        Set<KeyCombination> keys = items*.getAccelerator().findAll { it != null } as Set
        items.findAll { it instanceof Menu }.each { keys.addAll(keysIn(it.getItems())) }
        return keys
    }

}

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

def gui = binding.variables['glombridge.gui'] ?: Class.forName('qupath.lib.gui.QuPathGUI').getInstance()
if (gui == null) {
    throw new IllegalStateException('The menu needs QuPath with its user interface, not the command line.')
}
def menu = new GlombridgeMenu(gui, shared, PARAMETERS, file.parentFile)
Platform.isFxApplicationThread() ? menu.install() : Platform.runLater { menu.install() }
